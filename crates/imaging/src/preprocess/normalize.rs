//! 0…255 → f32, by a table per channel: exact, because it is built in the source library's own
//! order of operations, and faster than computing.

use super::{Backend, Normalize};

/// What each byte becomes, plane by plane.
#[derive(Clone, Debug)]
pub struct NormalizeLut {
    planes: [[f32; 256]; 3],
    bgr: bool,
}

impl NormalizeLut {
    /// In the order and precision of the library.
    pub fn new(normalize: &Normalize, backend: Backend) -> Self {
        let plain = normalize.mean == [0.0; 3] && normalize.std == [1.0; 3];
        let planes = std::array::from_fn(|channel| {
            let mean = normalize.mean[channel] as f32;
            let std = normalize.std[channel] as f32;
            let scale = normalize.scale;
            std::array::from_fn(|value| match backend {
                // The product in f64 rounded to f32, then the mean subtracted and the deviation
                // divided by in f32: transformers on NumPy's arrays. torchvision's `ToTensor`
                // divides by 255 in f32 instead, which gives the same 256 values (a golden checks
                // that).
                Backend::Pillow => ((value as f64 * scale) as f32 - mean) / std,
                Backend::Torchvision if plain => value as f32 * scale as f32,
                // Scaling and normalising in one.
                Backend::Torchvision => {
                    let stretch = (1.0 / scale) as f32;
                    (value as f32 - mean * stretch) / (std * stretch)
                }
            })
        });
        Self {
            planes,
            bgr: normalize.bgr,
        }
    }

    /// Interleaved RGB → three planes, R first, or B where the network takes that.
    pub(super) fn planes(&self, rgb: &[u8]) -> Vec<f32> {
        let mut planes = Vec::with_capacity(rgb.len());
        self.append(rgb, &mut planes);
        planes
    }

    /// The same at the end of other images' planes.
    pub fn append(&self, rgb: &[u8], planes: &mut Vec<f32>) {
        let (pixels, _) = rgb.as_chunks::<3>();
        for (plane, values) in self.planes.iter().enumerate() {
            let channel = if self.bgr { 2 - plane } else { plane };
            planes.extend(
                pixels
                    .iter()
                    .map(|pixel| values[usize::from(pixel[channel])]),
            );
        }
    }
}
