//! The host's side of a batch.

use std::sync::Arc;

use cudarc::driver::CudaContext;

use super::{Batch, SessionTensors};
use crate::cuda::{
    KernelError, OutputElement,
    memory::{Event, PinnedMemory},
    output_layout::OutputLayout,
};

/// Page-locked memory of the host for one batch: its images, and its outputs once it has run.
#[derive(Debug)]
pub struct HostBatch {
    pub(super) pixels: PinnedMemory,
    pub(super) values: PinnedMemory,
    pub(super) outputs: PinnedMemory,
    /// Of the batch that ran last.
    pub(super) layout: OutputLayout,
    images: usize,
    pub(super) done: Event,
    context: Arc<CudaContext>,
    tensors: Arc<SessionTensors>,
}

impl HostBatch {
    pub(super) fn new(
        context: &Arc<CudaContext>,
        tensors: &Arc<SessionTensors>,
    ) -> Result<Self, KernelError> {
        let memory = || PinnedMemory::new(context, 0);
        Ok(Self {
            pixels: memory()?,
            values: memory()?,
            outputs: memory()?,
            layout: OutputLayout::of(&[], 0),
            images: 0,
            done: Event::new(context)?,
            context: Arc::clone(context),
            tensors: Arc::clone(tensors),
        })
    }

    /// Room for so many images in bytes.
    ///
    /// # Errors
    /// If there is no page-locked memory.
    pub fn pixels(&mut self, images: usize) -> Result<&mut [u8], KernelError> {
        let bytes = images * self.tensors.values_of_image();
        grow(&mut self.pixels, &self.context, bytes)?;
        Ok(&mut self.pixels.bytes_mut()[..bytes])
    }

    /// Room for so many normalised images.
    ///
    /// # Errors
    /// If there is no page-locked memory.
    pub fn values(&mut self, images: usize) -> Result<&mut [f32], KernelError> {
        let count = images * self.tensors.values_of_image();
        grow(&mut self.values, &self.context, count * size_of::<f32>())?;
        Ok(self.values.numbers_mut(0, count))
    }

    /// Values of an output of the last batch, by its place among the session's outputs; `None` if
    /// it was not wanted or is no float32.
    pub fn floats(&self, output: usize) -> Option<&[f32]> {
        let (offset, count) = self.place(output, OutputElement::Float)?;
        Some(self.outputs.numbers(offset, count))
    }

    /// The same of an int64 output.
    pub fn integers(&self, output: usize) -> Option<&[i64]> {
        let (offset, count) = self.place(output, OutputElement::Integer)?;
        Some(self.outputs.numbers(offset, count))
    }

    fn place(&self, output: usize, element: OutputElement) -> Option<(usize, usize)> {
        let spec = self.tensors.outputs.get(output)?;
        let offset = *self.layout.offsets.get(output)?;
        (spec.element == element).then(|| (offset, self.images * spec.values()))
    }

    pub(super) fn prepare_outputs(&mut self, batch: Batch) -> Result<(), KernelError> {
        self.images = batch.images();
        self.layout = OutputLayout::of(&self.tensors.outputs[..batch.outputs], self.images);
        // What is copied in was asked for with `pixels` and `values`.
        self.pixels(batch.pixels)?;
        self.values(batch.values)?;
        grow(&mut self.outputs, &self.context, self.layout.bytes)
    }
}

/// What was in there is gone if it grows.
fn grow(
    memory: &mut PinnedMemory,
    context: &Arc<CudaContext>,
    bytes: usize,
) -> Result<(), KernelError> {
    if memory.bytes().len() < bytes {
        *memory = PinnedMemory::new(context, bytes)?;
    }
    Ok(())
}
