//! Recording small batches.

use cudarc::driver::{
    result,
    sys::{CUdeviceptr, CUstream},
};

use super::{Batch, ComputeStream, Queue, Recording, SessionTensors};
use crate::cuda::{
    KernelError, OutputElement, OutputSpec, memory::PinnedMemory, output_layout::OutputLayout,
    replay::RecordedRun,
};

/// By how much a replay may differ from the run that was recorded: the norm of the difference over
/// that of the output. Both run the same kernels.
const REPLAY_TOLERANCE: f64 = 1e-3;

impl Queue {
    /// Runs the batch, records it, and compares what a replay gives.
    pub(super) fn record(
        &mut self,
        stream: &ComputeStream,
        tensors: &SessionTensors,
        batch: Batch,
    ) -> Result<(), KernelError> {
        self.launch(tensors, batch, true)?;
        let recorded = self.recorded_run(stream, tensors, batch);
        match recorded {
            Ok(run) => {
                tracing::debug!(?batch, nodes = run.nodes, "run recorded");
                self.recorded.insert(batch, Recording::Recorded(run));
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    images = batch.images(),
                    "a small batch cannot be replayed: each of its kernels is launched, which is slower"
                );
                self.recorded.insert(batch, Recording::Impossible);
                // A recording that was broken off may have left the outputs undone.
                self.launch(tensors, batch, true)?;
            }
        }
        Ok(())
    }

    fn recorded_run(
        &mut self,
        stream: &ComputeStream,
        tensors: &SessionTensors,
        batch: Batch,
    ) -> Result<RecordedRun, KernelError> {
        let outputs = &tensors.outputs[..batch.outputs];
        let layout = OutputLayout::of(outputs, batch.images());
        let (context, on) = (&stream.context, stream.stream.cu_stream());
        let mut expected = PinnedMemory::new(context, layout.bytes)?;
        let mut found = PinnedMemory::new(context, layout.bytes)?;
        let address = self.outputs.address();
        // SAFETY: the memory is as large, and the stream is waited for before it goes.
        unsafe { copy_back(&mut expected, address, on) }?;
        stream.wait()?;
        // What a replay does not write would be seen: no output is such a number.
        // SAFETY: as above.
        unsafe { result::memset_d8_async(address, 0xff, layout.bytes, on) }?;
        stream.wait()?;
        // SAFETY: the stream is this session's, and whoever holds the queue is alone on it.
        let mut run =
            unsafe { RecordedRun::record(context, on, || self.launch(tensors, batch, false)) }?;
        // SAFETY: as above.
        unsafe {
            run.replay(on)?;
            copy_back(&mut found, address, on)?;
        }
        stream.wait()?;
        compare(outputs, &layout, batch.images(), &expected, &found)?;
        Ok(run)
    }
}

/// # Safety
/// `memory` is not read before the stream has passed the copy, and lives until then; there are as
/// many bytes at `address`.
unsafe fn copy_back(
    memory: &mut PinnedMemory,
    address: CUdeviceptr,
    stream: CUstream,
) -> Result<(), KernelError> {
    // SAFETY: the caller's promise.
    Ok(unsafe { result::memcpy_dtoh_async(memory.bytes_mut(), address, stream) }?)
}

/// A replay gives what the run gave.
fn compare(
    outputs: &[OutputSpec],
    layout: &OutputLayout,
    images: usize,
    expected: &PinnedMemory,
    found: &PinnedMemory,
) -> Result<(), KernelError> {
    for (output, &offset) in outputs.iter().zip(&layout.offsets) {
        let count = images * output.values();
        let same = match output.element {
            OutputElement::Integer => {
                let of = |memory: &PinnedMemory| memory.numbers::<i64>(offset, count).to_vec();
                of(expected) == of(found)
            }
            OutputElement::Float => {
                let [expected, found] =
                    [expected, found].map(|memory| memory.numbers::<f32>(offset, count));
                let squares = |values: &mut dyn Iterator<Item = f64>| {
                    values.map(|value| value * value).sum::<f64>().sqrt()
                };
                let pairs = expected.iter().zip(found);
                let mut differences = pairs.map(|(&a, &b)| f64::from(a) - f64::from(b));
                let norm = squares(&mut expected.iter().map(|&value| f64::from(value)));
                // Not a number is no agreement.
                squares(&mut differences) <= REPLAY_TOLERANCE * norm
            }
        };
        if !same {
            return Err(KernelError::Recording(format!(
                "its `{}` is another than that of the run",
                output.name
            )));
        }
    }
    Ok(())
}
