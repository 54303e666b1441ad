//! A session on one card whose batches are queued on one stream.
//!
//! ONNX Runtime's `Run` waits for the card. Here it only launches: copies to the card, kernels and
//! copies back are queued on a stream of our own, and whoever queued a batch sleeps until its own
//! outputs are there. So several threads keep one session busy, and the card goes from one batch to
//! the next without waiting for the host. They queue one after the other, behind a lock: the
//! runtime's `Run` is not safe to be called by several threads at once, and on one stream no batch
//! sees another's half-made tensors.
//!
//! Small batches are recorded when their size has run once, and replayed from then on
//! ([`RecordedRun`]).

mod host_batch;
mod recording;
mod runner;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::driver::{CudaContext, CudaStream, result};
use ort::{ep::CUDA, session::Session};

pub use self::host_batch::HostBatch;
use self::runner::{Addresses, Runner};
use super::{
    KernelError, OutputSpec, memory::DeviceMemory, output_layout::OutputLayout, replay::RecordedRun,
};

/// The most images whose launches are recorded. Larger batches keep the card busy for longer than
/// they take to launch.
const MAX_RECORDED: usize = 8;

/// A stream of a card, on which everything of one session happens.
#[derive(Clone, Debug)]
pub struct ComputeStream {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

impl ComputeStream {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self, KernelError> {
        Ok(Self {
            context: Arc::clone(context),
            stream: context.new_stream()?,
        })
    }

    /// Lets the provider launch on this stream. [`CardSession`] keeps it alive.
    pub fn add_to(&self, provider: CUDA) -> CUDA {
        // SAFETY: the session that is made with this provider goes into a `CardSession`, which
        // drops it before the stream; one that fails to open has launched nothing that it did not
        // wait for.
        unsafe { provider.with_compute_stream(self.stream.cu_stream().cast()) }
    }

    /// Until everything is done that it was given.
    fn wait(&self) -> Result<(), KernelError> {
        Ok(self.stream.synchronize()?)
    }
}

/// Names and shapes of a session's tensors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionTensors {
    /// Input of images as bytes, `[batch, height, width, 3]`.
    pub pixels: String,
    /// Input of normalised images, float32 `[batch, 3, height, width]`.
    pub values: String,
    /// Input that says whether anything but the first output is wanted, int64 `[1]`.
    pub maps: String,
    /// Height and width.
    pub image: [usize; 2],
    /// Outputs, in the order in which they are wanted: a batch asks for the first so many.
    pub outputs: Vec<OutputSpec>,
}

impl SessionTensors {
    fn values_of_image(&self) -> usize {
        3 * self.image[0] * self.image[1]
    }
}

/// What a batch is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Batch {
    /// Images in bytes, which come first.
    pub pixels: usize,
    /// Normalised images behind them.
    pub values: usize,
    /// Whether anything but the first output is wanted.
    pub maps: bool,
    /// How many outputs are wanted, from the first on.
    pub outputs: usize,
}

impl Batch {
    fn images(&self) -> usize {
        self.pixels + self.values
    }

    fn may_be_recorded(&self) -> bool {
        self.values == 0 && self.pixels <= MAX_RECORDED
    }
}

/// A session that several threads queue batches for.
#[derive(Debug)]
pub struct CardSession {
    queue: Mutex<Queue>,
    tensors: Arc<SessionTensors>,
    stream: ComputeStream,
}

/// What only one batch at a time touches while it is queued. Dropped in this order.
#[derive(Debug)]
struct Queue {
    recorded: HashMap<Batch, Recording>,
    session: Session,
    pixels: DeviceMemory,
    values: DeviceMemory,
    outputs: DeviceMemory,
    runner: Runner,
    record: bool,
}

/// How far the recording of a kind of batch is.
#[derive(Debug)]
enum Recording {
    /// It has run once, so the runtime has its memory and has chosen its kernels.
    HasRun,
    Recorded(RecordedRun),
    Impossible,
}

impl CardSession {
    /// Takes over a session that was opened with this stream on this card. With `record`, small
    /// batches are recorded and replayed.
    ///
    /// # Errors
    /// If the card has no memory, or the runtime fails.
    pub fn new(
        session: Session,
        stream: ComputeStream,
        card: u32,
        tensors: SessionTensors,
        record: bool,
    ) -> Result<Self, KernelError> {
        let memory = |bytes| DeviceMemory::new(&stream.context, bytes);
        let [pixels, values, outputs] = [memory(0)?, memory(0)?, memory(0)?];
        Ok(Self {
            queue: Mutex::new(Queue {
                recorded: HashMap::new(),
                session,
                pixels,
                values,
                outputs,
                runner: Runner::new(card, &tensors)?,
                record,
            }),
            tensors: Arc::new(tensors),
            stream,
        })
    }

    /// Room for one batch at a time.
    ///
    /// # Errors
    /// If there is no page-locked memory.
    pub fn host_batch(&self) -> Result<HostBatch, KernelError> {
        HostBatch::new(&self.stream.context, &self.tensors)
    }

    /// Runs what was written into `host`, and returns when its outputs are there.
    ///
    /// # Errors
    /// Whatever the runtime or the card reports; of the outputs nothing can be said then.
    pub fn run(&self, host: &mut HostBatch, batch: Batch) -> Result<(), KernelError> {
        host.prepare_outputs(batch)?;
        let queued = {
            // A panic while it was held left tensors in any state, which the next run overwrites.
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.enqueue(&self.stream, &self.tensors, host, batch)
        };
        if let Err(error) = queued {
            // Copies to and from `host` may be under way; and what failed is said, not what follows.
            let _ = self.stream.wait();
            return Err(error);
        }
        Ok(host.done.wait()?)
    }
}

impl Drop for CardSession {
    fn drop(&mut self) {
        // Nothing may be under way when the session's memory goes.
        if let Err(error) = self.stream.wait() {
            tracing::warn!(%error, "the card failed before its session was closed");
        }
    }
}

impl Queue {
    /// Copies in, runs or replays, copies out, and records when that is done.
    fn enqueue(
        &mut self,
        stream: &ComputeStream,
        tensors: &SessionTensors,
        host: &mut HostBatch,
        batch: Batch,
    ) -> Result<(), KernelError> {
        stream.context.bind_to_thread()?;
        self.reserve(stream, tensors, batch)?;
        let on = stream.stream.cu_stream();
        let of_image = tensors.values_of_image();
        let pixels = &host.pixels.bytes()[..batch.pixels * of_image];
        let values = host.values.numbers::<f32>(0, batch.values * of_image);
        // SAFETY: the card's memory is as large, `reserve` made it so; both sides live until the
        // stream has passed the copy: `CardSession::run` waits for it.
        unsafe {
            if !pixels.is_empty() {
                result::memcpy_htod_async(self.pixels.address(), pixels, on)?;
            }
            if !values.is_empty() {
                result::memcpy_htod_async(self.values.address(), values, on)?;
            }
        }
        let outputs = self.outputs.address();
        self.run_or_replay(stream, tensors, batch)?;
        let bytes = host.layout.bytes;
        // SAFETY: as above.
        unsafe {
            result::memcpy_dtoh_async(&mut host.outputs.bytes_mut()[..bytes], outputs, on)?;
            host.done.record(on)?;
        }
        Ok(())
    }

    /// Memory of the card for this batch. Addresses are part of recorded runs, which read none of
    /// `values`.
    fn reserve(
        &mut self,
        stream: &ComputeStream,
        tensors: &SessionTensors,
        batch: Batch,
    ) -> Result<(), KernelError> {
        let of_image = tensors.values_of_image();
        let outputs = OutputLayout::of(&tensors.outputs[..batch.outputs], batch.images());
        let wanted = [
            (&mut self.pixels, batch.pixels * of_image, true),
            (&mut self.outputs, outputs.bytes, true),
            (
                &mut self.values,
                batch.values * of_image * size_of::<f32>(),
                false,
            ),
        ];
        for (memory, bytes, is_recorded) in wanted {
            if memory.bytes() >= bytes {
                continue;
            }
            stream.wait()?;
            if is_recorded {
                self.recorded.clear();
            }
            *memory = DeviceMemory::new(&stream.context, bytes)?;
        }
        Ok(())
    }

    fn run_or_replay(
        &mut self,
        stream: &ComputeStream,
        tensors: &SessionTensors,
        batch: Batch,
    ) -> Result<(), KernelError> {
        if !self.record || !batch.may_be_recorded() {
            return self.launch(tensors, batch, true);
        }
        match self.recorded.get_mut(&batch) {
            None => {
                self.launch(tensors, batch, true)?;
                self.recorded.insert(batch, Recording::HasRun);
            }
            Some(Recording::HasRun) => self.record(stream, tensors, batch)?,
            // SAFETY: the stream is this session's, and whatever replaces the memory of the run
            // drops it.
            Some(Recording::Recorded(run)) => unsafe { run.replay(stream.stream.cu_stream()) }?,
            Some(Recording::Impossible) => self.launch(tensors, batch, true)?,
        }
        Ok(())
    }

    /// Launches the session's kernels. A run that is being recorded never waits.
    fn launch(
        &mut self,
        tensors: &SessionTensors,
        batch: Batch,
        may_wait: bool,
    ) -> Result<(), KernelError> {
        let addresses = Addresses {
            pixels: &self.pixels,
            values: &self.values,
            outputs: &self.outputs,
        };
        self.runner
            .run(&mut self.session, tensors, &addresses, batch, may_wait)
    }
}
