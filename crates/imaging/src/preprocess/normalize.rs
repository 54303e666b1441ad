//! 0…255 → f32, by a table per channel: exact, because it is built in the source library's own
//! order of operations, and faster than computing.

use super::Normalize;

/// What each byte becomes, for R, G and B.
#[derive(Clone, Debug)]
pub(super) struct Table([[f32; 256]; 3]);

impl Table {
    /// In transformers' order and precision: the product in f64 rounded to f32, then the mean
    /// subtracted and the deviation divided by in f32. torchvision divides by 255 in f32 instead,
    /// which gives the same 256 values (a golden checks that).
    pub(super) fn new(normalize: &Normalize) -> Self {
        Self(std::array::from_fn(|channel| {
            let mean = normalize.mean[channel] as f32;
            let std = normalize.std[channel] as f32;
            std::array::from_fn(|value| ((value as f64 * normalize.scale) as f32 - mean) / std)
        }))
    }

    /// Interleaved RGB → three planes, R first.
    pub(super) fn planes(&self, rgb: &[u8]) -> Vec<f32> {
        let (pixels, _) = rgb.as_chunks::<3>();
        let mut planes = Vec::with_capacity(3 * pixels.len());
        for (channel, values) in self.0.iter().enumerate() {
            planes.extend(
                pixels
                    .iter()
                    .map(|pixel| values[usize::from(pixel[channel])]),
            );
        }
        planes
    }
}
