//! Calls the runtime with tensors that are on the card.

use std::{
    ffi::{CStr, CString, c_char},
    fmt,
};

use ort::{
    AsPointer,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{NoSelectedOutputs, RunOptions, Session},
    value::{Shape, TensorRef, TensorRefMut},
};

use super::{Batch, SessionTensors};
use crate::cuda::{KernelError, OutputElement, memory::DeviceMemory, output_layout::OutputLayout};

/// Every so many runs one waits for the card, which lets the runtime give back page-locked memory
/// that some of its operators take for their arguments.
const RUNS_BETWEEN_WAITS: u64 = 256;

/// Where the tensors of a run are.
pub(super) struct Addresses<'a> {
    pub(super) pixels: &'a DeviceMemory,
    pub(super) values: &'a DeviceMemory,
    pub(super) outputs: &'a DeviceMemory,
}

/// Calls the runtime.
pub(super) struct Runner {
    card: i32,
    /// The inputs' names, then the outputs'.
    names: Vec<CString>,
    queued: RunOptions<NoSelectedOutputs>,
    waited: RunOptions<NoSelectedOutputs>,
    runs: u64,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runner = f.debug_struct("Runner");
        runner.field("names", &self.names).field("runs", &self.runs);
        runner.finish_non_exhaustive()
    }
}

impl Runner {
    pub(super) fn new(card: u32, tensors: &SessionTensors) -> Result<Self, KernelError> {
        let inputs = [&tensors.pixels, &tensors.values, &tensors.maps];
        let outputs = tensors.outputs.iter().map(|output| &output.name);
        let names = inputs.into_iter().chain(outputs);
        let names = names.map(|name| CString::new(name.as_str()));
        let mut queued = RunOptions::new()?;
        queued.disable_device_sync()?;
        Ok(Self {
            card: i32::try_from(card).map_err(ort::Error::wrap)?,
            names: names.collect::<Result<_, _>>().map_err(ort::Error::wrap)?,
            queued,
            waited: RunOptions::new()?,
            runs: 0,
        })
    }

    pub(super) fn run(
        &mut self,
        session: &mut Session,
        tensors: &SessionTensors,
        memory: &Addresses<'_>,
        batch: Batch,
        may_wait: bool,
    ) -> Result<(), KernelError> {
        let [height, width] = tensors.image;
        let images = batch.images();
        let on_card = || -> ort::Result<MemoryInfo<'static>> {
            MemoryInfo::new(
                AllocationDevice::CUDA,
                self.card,
                AllocatorType::Device,
                MemoryType::Default,
            )
        };
        // SAFETY: `reserve` made the memory as large, and it lives longer than this call.
        let (pixels, values) = unsafe {
            (
                TensorRefMut::<u8>::from_raw(
                    on_card()?,
                    memory.pixels.pointer(0),
                    Shape::from([batch.pixels, height, width, 3]),
                )?,
                TensorRefMut::<f32>::from_raw(
                    on_card()?,
                    memory.values.pointer(0),
                    Shape::from([batch.values, 3, height, width]),
                )?,
            )
        };
        let maps = [i64::from(batch.maps)];
        let maps = TensorRef::from_array_view(([1_usize], &maps[..]))?;
        let inputs = [pixels.ptr(), values.ptr(), maps.ptr()];

        let wanted = &tensors.outputs[..batch.outputs];
        let layout = OutputLayout::of(wanted, images);
        let mut floats = Vec::with_capacity(wanted.len());
        let mut integers = Vec::new();
        let mut outputs = Vec::with_capacity(wanted.len());
        for (output, &offset) in wanted.iter().zip(&layout.offsets) {
            let shape: Vec<usize> = [images].iter().chain(&output.dims).copied().collect();
            let (shape, place) = (Shape::from(shape), memory.outputs.pointer(offset));
            // SAFETY: as above; outputs do not overlap.
            let value = unsafe {
                match output.element {
                    OutputElement::Float => {
                        let tensor = TensorRefMut::<f32>::from_raw(on_card()?, place, shape)?;
                        let value = tensor.ptr();
                        floats.push(tensor);
                        value
                    }
                    OutputElement::Integer => {
                        let tensor = TensorRefMut::<i64>::from_raw(on_card()?, place, shape)?;
                        let value = tensor.ptr();
                        integers.push(tensor);
                        value
                    }
                }
            };
            outputs.push(value.cast_mut());
        }
        let names: Vec<*const c_char> = self.names.iter().map(|name| CStr::as_ptr(name)).collect();
        let (input_names, output_names) = names.split_at(inputs.len());
        self.runs += 1;
        let options = match may_wait && self.runs.is_multiple_of(RUNS_BETWEEN_WAITS) {
            true => &self.waited,
            false => &self.queued,
        };
        // SAFETY: as many names as values, all of which live until this returns; the session is
        // borrowed exclusively, and its stream outlives it. The outputs are given, so none is made.
        unsafe {
            let status = (ort::api().Run)(
                session.ptr().cast_mut(),
                options.ptr(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                outputs.len(),
                outputs.as_mut_ptr(),
            );
            ort::Error::result_from_status(status)?;
        }
        Ok(())
    }
}
