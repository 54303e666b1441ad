//! A batch's images, gathered for the session.

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, SessionInputValue},
    value::{Tensor, TensorRef},
};
use patchlight_imaging::preprocess::{ImageTensorRef, NormalizeLut, Preprocess, TensorForm};
use patchlight_onnx::vit::fused::PIXELS;

use super::{EngineError, cpu};

/// Gathers batches in the forms that the session takes, in memory that is kept: a run allocates
/// nothing of a batch's size.
#[derive(Debug)]
pub(super) struct BatchInput {
    form: TensorForm,
    /// Height and width.
    image: [usize; 2],
    /// For sessions that do not normalise.
    table: NormalizeLut,
    normalized: Vec<f32>,
    pixels: Vec<u8>,
    /// Memory that a card reads by itself. The runtime keeps what it has given out once.
    pinned: Option<Allocator>,
}

/// A gathered batch.
pub(super) struct Gathered<'a> {
    /// Values of the session's inputs, by name.
    pub(super) values: Vec<(&'a str, SessionInputValue<'a>)>,
    /// Where each image is in the batch.
    pub(super) rows: Vec<usize>,
}

impl BatchInput {
    /// For a session that takes images in `form`.
    pub(super) fn new(form: TensorForm, image: [usize; 2], preprocess: &Preprocess) -> Self {
        Self {
            form,
            image,
            table: NormalizeLut::new(&preprocess.normalize, preprocess.backend),
            normalized: Vec::new(),
            pixels: Vec::new(),
            pinned: None,
        }
    }

    /// What the session takes without converting it.
    pub(super) fn form(&self) -> TensorForm {
        self.form
    }

    /// Gathers bytes in memory from which this card's copies run while the processor goes on.
    pub(super) fn pin(&mut self, session: &Session, card: u32) {
        match pinned_allocator(session, card) {
            Ok(allocator) => self.pinned = Some(allocator),
            Err(error) => tracing::warn!(
                card,
                %error,
                "no page-locked memory: inputs are copied to the card from ordinary memory, which is slower"
            ),
        }
    }

    /// Puts the images one after the other: those in bytes first, where the session takes both
    /// forms.
    pub(super) fn gather<'a>(
        &'a mut self,
        name: &'a str,
        images: &[ImageTensorRef<'_>],
    ) -> Result<Gathered<'a>, EngineError> {
        let [height, width] = self.image;
        let values_of_image = 3 * height * width;
        self.normalized.clear();
        let mut pixels: Vec<&[u8]> = Vec::with_capacity(images.len());
        let mut float_rows = 0;
        let mut rows = Vec::with_capacity(images.len());
        for &image in images {
            let length = match image {
                ImageTensorRef::Normalized(values) => values.len(),
                ImageTensorRef::Pixels(bytes) => bytes.len(),
            };
            if length != values_of_image {
                return Err(EngineError::Graph(format!(
                    "an image has {length} values, expected 3 × {height} × {width}"
                )));
            }
            match (image, self.form) {
                (ImageTensorRef::Pixels(bytes), TensorForm::Pixels) => {
                    rows.push(pixels.len());
                    pixels.push(bytes);
                    continue;
                }
                (ImageTensorRef::Pixels(bytes), TensorForm::Normalized) => {
                    self.table.append(bytes, &mut self.normalized);
                }
                (ImageTensorRef::Normalized(values), _) => {
                    let values = values.iter().copied().map(cpu::flush_tiny);
                    self.normalized.extend(values);
                }
            }
            rows.push(float_rows);
            float_rows += 1;
        }
        let mut values = Vec::with_capacity(3);
        if self.form == TensorForm::Pixels {
            for (row, image) in rows.iter_mut().zip(images) {
                if image.normalized().is_some() {
                    *row += pixels.len();
                }
            }
            let shape = [pixels.len(), height, width, 3];
            let value = match self.in_pinned_memory(shape, &pixels) {
                Some(tensor) => tensor.into(),
                None => {
                    self.pixels.clear();
                    pixels
                        .iter()
                        .for_each(|bytes| self.pixels.extend_from_slice(bytes));
                    TensorRef::from_array_view((shape, &*self.pixels))?.into()
                }
            };
            values.push((PIXELS, value));
        }
        let shape = [float_rows, 3, height, width];
        let tensor = TensorRef::from_array_view((shape, &*self.normalized))?;
        values.push((name, tensor.into()));
        Ok(Gathered { values, rows })
    }

    /// None if there is no such memory; it is then not tried again.
    fn in_pinned_memory(&mut self, shape: [usize; 4], images: &[&[u8]]) -> Option<Tensor<u8>> {
        let allocator = self.pinned.as_ref().filter(|_| !images.is_empty())?;
        match filled(allocator, shape, images) {
            Ok(tensor) => Some(tensor),
            Err(error) => {
                tracing::warn!(%error, "page-locked memory cannot be had: ordinary memory is used from now on");
                self.pinned = None;
                None
            }
        }
    }
}

fn pinned_allocator(session: &Session, card: u32) -> ort::Result<Allocator> {
    let card = i32::try_from(card).map_err(ort::Error::wrap)?;
    let memory = MemoryInfo::new(
        AllocationDevice::CUDA_PINNED,
        card,
        AllocatorType::Device,
        MemoryType::CPUInput,
    )?;
    Allocator::new(session, memory)
}

fn filled(allocator: &Allocator, shape: [usize; 4], images: &[&[u8]]) -> ort::Result<Tensor<u8>> {
    let mut tensor = Tensor::<u8>::new(allocator, shape)?;
    let (_, bytes) = tensor.try_extract_tensor_mut::<u8>()?;
    let [_, height, width, channels] = shape;
    let places = bytes.chunks_exact_mut(height * width * channels);
    for (place, image) in places.zip(images) {
        place.copy_from_slice(image);
    }
    Ok(tensor)
}
