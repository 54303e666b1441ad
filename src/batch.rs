//! From single input tensors to batches and back.
//!
//! A request hands its tensor to a [`Batcher`] and waits on a oneshot. A worker thread owns an
//! [`Engine`] and takes whatever waits, as the [`policy`] says: a request that finds the engine
//! idle runs at once and alone; what arrives meanwhile forms the next batch. No timer delays a
//! quiet service. Several engines of the same model take from one queue, each in its own thread.
//!
//! Background items ([`Batcher::run_in_background`]) have a queue of their own. They run when the
//! engine would be idle, and join a batch where that does not slow it down.
//!
//! A request that is dropped (its client left) or whose deadline passes is taken out of the queue
//! at once and never reaches the engine. A full queue rejects. Requests take turns, however many
//! images each has (`fair_queue`).
//!
//! A batch that the device has no memory for is halved, and so are those that follow
//! (`batch_limit`). One that fails otherwise is tried again one by one, so that a request fails only
//! for its own sake. An engine that only fails is rebuilt once; then its device is given up, and
//! with the last one the [`FatalSignal`] is raised. With several devices an input that fails alone
//! is tried on another before its request fails.

mod admission;
mod batch_limit;
mod fair_queue;
mod lanes;
mod latency_model;
pub mod policy;
mod queue;
mod recovery;
mod request;
mod worker;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use patchlight_engine::{Engine, Input, Output};
use patchlight_imaging::preprocess::ImageTensor;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use self::{
    admission::Load, lanes::DeviceState, policy::Policy, recovery::FatalSignal,
    request::RequestContext, worker::Workers,
};
use self::{
    fair_queue::QueueEntry,
    queue::{Priority, PushResult, Queue, Ticket},
};
use crate::{
    Error, Result,
    metrics::{Metrics, ShedReason},
};

/// The answer to one request, and how it came about.
#[derive(Debug)]
pub struct Inference {
    /// What the model says.
    pub output: Output,
    /// From handing in to the start of the batch.
    pub queued: Duration,
    /// How long the batch ran.
    pub ran: Duration,
    /// How many images the batch held.
    pub batch_size: usize,
    /// The batch's number: every run of an engine has its own.
    pub batch: u64,
}

/// One image for the engine, owned.
#[derive(Clone, Debug)]
pub struct BatchItem {
    /// Its values.
    pub tensor: ImageTensor,
    /// Whether the class token's attention is wanted with the answer.
    pub class_attention: bool,
    /// Whether anything but the logits is wanted.
    pub maps: bool,
}

impl BatchItem {
    fn input(&self) -> Input<'_> {
        Input {
            tensor: self.tensor.view(),
            class_attention: self.class_attention,
            maps: self.maps,
        }
    }
}

impl From<ImageTensor> for BatchItem {
    /// Without the class token's attention.
    fn from(tensor: ImageTensor) -> Self {
        Self {
            tensor,
            class_attention: false,
            maps: true,
        }
    }
}

impl From<Vec<f32>> for BatchItem {
    fn from(tensor: Vec<f32>) -> Self {
        ImageTensor::from(tensor).into()
    }
}

/// What engines have run before they serve.
#[derive(Clone, Debug, Default)]
pub struct WarmUp {
    /// Batch sizes and how long each took: what is expected of them until they have served some.
    pub times: Vec<(usize, Duration)>,
    /// The largest batch that the devices had memory for, if a larger one did not fit.
    pub largest: Option<usize>,
}

/// Handle to the queue in front of a model's engines. Cheap to clone. When the last one is dropped,
/// the workers finish what waits and end.
#[derive(Clone, Debug)]
pub struct Batcher {
    handle: Arc<QueueHandle>,
    background: CancellationToken,
    metrics: Arc<Metrics>,
}

/// Closes the queue when the last [`Batcher`] is dropped.
#[derive(Debug)]
struct QueueHandle(Arc<Queue>);

impl Drop for QueueHandle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Batcher {
    /// Starts a worker thread for each of the `engines`, which are of one model. It owns its engine
    /// and raises `fatal` when that is beyond repair.
    ///
    /// `warm_up` says what the engines have run already.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn spawn<E: Engine>(
        engines: Vec<E>,
        policy: Policy,
        warm_up: &WarmUp,
        metrics: Arc<Metrics>,
        fatal: &FatalSignal,
    ) -> io::Result<(Self, Workers)> {
        let queue = Arc::new(Queue::new(policy, &engines, warm_up));
        // Closes the queue if this ends early.
        let handle = Arc::new(QueueHandle(Arc::clone(&queue)));
        let workers = worker::spawn(engines, &queue, &metrics, fatal)?;
        let batcher = Self {
            handle,
            background: CancellationToken::new(),
            metrics,
        };
        Ok((batcher, workers))
    }

    /// A request that none of its items has been queued for yet. All of them are run with it.
    pub fn new_request(&self, deadline: Deadline) -> RequestContext {
        RequestContext::new(self.queue().next_request(), deadline)
    }

    /// Runs one input in some batch.
    ///
    /// Dropping the future takes the request out of the queue; if its batch has started already,
    /// the answer is thrown away.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full, [`Error::DeadlinePassed`] at the deadline,
    /// [`Error::Draining`] after [`close`](Self::close), [`Error::Inference`],
    /// [`Error::OutOfMemory`] and [`Error::NotFinite`] for this input's own failure.
    pub async fn run(
        &self,
        item: impl Into<BatchItem>,
        request: RequestContext,
    ) -> Result<Inference> {
        self.run_with(item.into(), request, Priority::Foreground)
            .await
    }

    /// The same, whenever no request of [`run`](Self::run) would have to wait for it, which may be
    /// never: a long deadline is in order, and few inputs at a time, for each holds its tensor.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn run_in_background(
        &self,
        item: impl Into<BatchItem>,
        request: RequestContext,
    ) -> Result<Inference> {
        self.run_with(item.into(), request, Priority::Background)
            .await
    }

    async fn run_with(
        &self,
        item: BatchItem,
        request: RequestContext,
        priority: Priority,
    ) -> Result<Inference> {
        let deadline = request.deadline();
        let (reply, answer) = oneshot::channel();
        let entry = QueueEntry {
            item,
            request: request.number,
            deadline: deadline.at,
            queued_at: Instant::now(),
            span: tracing::Span::current(),
            queue_span: tracing::debug_span!("queue"),
            failed_on: None,
            reply,
        };
        let ticket = match self.queue().push(entry, priority) {
            PushResult::Queued(ticket) => ticket,
            PushResult::Full => {
                if priority == Priority::Foreground {
                    self.metrics.shed(ShedReason::QueueFull);
                }
                return Err(Error::Overloaded {
                    retry_after: self.load().predicted_wait,
                });
            }
            PushResult::Closed => return Err(Error::Draining),
        };
        let guard = CancelGuard {
            ticket,
            batcher: self,
            armed: true,
        };
        let outcome = tokio::time::timeout_at(deadline.at.into(), answer).await;
        match outcome {
            Ok(Ok(result)) => {
                guard.disarm();
                result
            }
            // The worker drops a reply unanswered only for an expired deadline or its own end.
            Ok(Err(_)) if deadline.has_passed() => {
                guard.disarm();
                Err(deadline.error())
            }
            Ok(Err(_)) => {
                guard.disarm();
                Err(Error::Inference)
            }
            Err(_) => {
                guard.withdraw();
                Err(deadline.error())
            }
        }
    }

    /// Counts an item that will be queued soon, until the reservation is dropped. Without it all
    /// requests of a burst would be admitted against an empty queue.
    pub fn reserve(&self) -> Reservation {
        let queue = Arc::clone(&self.handle.0);
        queue.reserve();
        Reservation(queue)
    }

    /// How busy the engine is, for admission and metrics.
    pub fn load(&self) -> Load {
        self.queue().load(Instant::now())
    }

    /// The most inputs that run together.
    pub fn max_batch(&self) -> usize {
        self.queue().policy().max_batch.get()
    }

    /// The devices behind the queue, those included that were given up.
    pub fn devices(&self) -> Vec<DeviceState> {
        self.queue().devices()
    }

    /// The time of each batch size that has run, if only before the first request: images and
    /// seconds.
    pub fn batch_latencies(&self) -> Vec<(usize, f64)> {
        self.queue().batch_latencies()
    }

    /// The model is replaced, removed or about to end: work in the background is not worth it any
    /// more. Requests that hold it are served as before.
    pub fn cancel_background(&self) {
        self.background.cancel();
    }

    /// Cancelled by [`cancel_background`](Self::cancel_background). A caller that runs something in
    /// the background watches it and drops this handle then.
    pub fn background_token(&self) -> CancellationToken {
        self.background.clone()
    }

    /// Closes the queue and rejects what waits; only running batches are finished.
    pub fn refuse_waiting(&self) {
        for entry in self.queue().close_and_take() {
            // A client that has left needs no refusal.
            let _ = entry.reply.send(Err(Error::Draining));
        }
    }

    /// Closes the queue. What is queued still runs, then the workers end.
    pub fn close(&self) {
        self.queue().close();
    }

    fn queue(&self) -> &Queue {
        &self.handle.0
    }
}

/// An item that is on its way to the queue.
#[derive(Debug)]
#[must_use = "it counts only until it is dropped"]
pub struct Reservation(Arc<Queue>);

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// When a request's answer is no longer wanted.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    given: Duration,
}

impl Deadline {
    /// `given` from now.
    pub fn after(given: Duration) -> Self {
        Self {
            at: tokio::time::Instant::now().into_std() + given,
            given,
        }
    }

    /// The same, or `limit` from now if that is earlier.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        let sooner = Self::after(limit);
        if sooner.at < self.at { sooner } else { self }
    }

    /// The time that is left; zero when it has passed.
    pub fn left(&self) -> Duration {
        self.at
            .saturating_duration_since(tokio::time::Instant::now().into_std())
    }

    /// The moment itself.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Whether an answer would come too late now.
    pub fn has_passed(&self) -> bool {
        self.left().is_zero()
    }

    /// The error that a request gets whose deadline has passed.
    pub fn error(&self) -> Error {
        Error::DeadlinePassed {
            deadline: self.given,
        }
    }
}

/// Removes an item from the queue when its future is dropped.
struct CancelGuard<'a> {
    ticket: Ticket,
    batcher: &'a Batcher,
    armed: bool,
}

impl CancelGuard<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }

    /// The deadline passed: out of the queue, but no client has left.
    fn withdraw(mut self) {
        self.armed = false;
        self.batcher.queue().remove(self.ticket);
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            let was_waiting = self.batcher.queue().remove(self.ticket);
            // A background item has no client that could have left.
            if self.ticket.priority == Priority::Foreground {
                let stage = if was_waiting { "queue" } else { "inference" };
                self.batcher.metrics.abandoned(stage);
            }
        }
    }
}

#[cfg(test)]
mod tests;
