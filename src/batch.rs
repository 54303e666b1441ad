//! From single input tensors to batches and back.
//!
//! A request hands its tensor to a [`Batcher`] and waits on a oneshot. A worker thread owns an
//! [`Engine`] and takes whatever waits, as the [`policy`] says: a request that finds the engine
//! idle runs at once and alone; what arrives meanwhile forms the next batch. No timer delays a
//! quiet service. Several engines of the same model take from one queue, each in its own thread.
//!
//! What nobody waits for ([`Batcher::run_in_background`]) has a queue of its own and gets what the
//! requests leave: the engine when it would be idle, and places in a batch that cost nothing.
//!
//! A request that is dropped (its client left) or whose deadline passes is taken out of the queue
//! at once and never reaches the engine. A full queue refuses. Requests take turns, however many
//! pictures each brings ([`pending`]). A batch that fails is tried again one by one, so that a
//! request fails only for its own sake; an engine that only fails is made anew once, then the
//! [`Alarm`] is rung.

mod admission;
mod curve;
mod pending;
pub mod policy;
mod queue;
mod recovery;
mod worker;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

pub use self::{admission::Load, policy::Policy, recovery::Alarm, worker::Workers};
use self::{
    pending::Entry,
    queue::{Place, Priority, Push, Queue},
};
use crate::{
    Error, Result,
    engine::{Engine, Input, Output},
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
    /// How many pictures the batch held.
    pub batch_size: usize,
    /// The batch's number: every run of an engine has its own.
    pub batch: u64,
}

/// One picture for the engine, owned.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `3·height·width` values in NCHW order.
    pub tensor: Vec<f32>,
    /// Whether the class token's attention is wanted with the answer.
    pub class_attention: bool,
}

impl Ask {
    fn input(&self) -> Input<'_> {
        Input {
            tensor: &self.tensor,
            class_attention: self.class_attention,
        }
    }
}

impl From<Vec<f32>> for Ask {
    /// Without the class token's attention.
    fn from(tensor: Vec<f32>) -> Self {
        Self {
            tensor,
            class_attention: false,
        }
    }
}

/// Handle to the queue in front of a model's engines. Cheap to clone. When the last one is dropped,
/// the workers finish what waits and end.
#[derive(Clone, Debug)]
pub struct Batcher {
    entrance: Arc<Entrance>,
    metrics: Arc<Metrics>,
}

/// The side of a queue that requests come in by.
#[derive(Debug)]
struct Entrance(Arc<Queue>);

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Batcher {
    /// Starts a worker thread for each of the `engines`, which are of one model. It owns its engine
    /// and rings `alarm` when that is beyond repair.
    ///
    /// `warm_up` says how long batches took that an engine has run already: what is expected of
    /// them until they have served some.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn spawn<E: Engine>(
        engines: Vec<E>,
        policy: Policy,
        warm_up: &[(usize, Duration)],
        metrics: Arc<Metrics>,
        alarm: &Alarm,
    ) -> io::Result<(Self, Workers)> {
        let queue = Arc::new(Queue::new(policy, engines.len(), warm_up));
        // Closes the queue if this ends early.
        let entrance = Arc::new(Entrance(Arc::clone(&queue)));
        let workers = worker::spawn(engines, &queue, &metrics, alarm)?;
        Ok((Self { entrance, metrics }, workers))
    }

    /// Runs one input in some batch.
    ///
    /// Dropping the future takes the request out of the queue; if its batch has started already,
    /// the answer is thrown away.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full, [`Error::DeadlinePassed`] at `deadline`,
    /// [`Error::Draining`] after [`close`](Self::close), [`Error::Inference`] and
    /// [`Error::NotFinite`] for this input's own failure.
    pub async fn run(&self, ask: impl Into<Ask>, deadline: Deadline) -> Result<Inference> {
        self.run_with(ask.into(), deadline, Priority::Foreground)
            .await
    }

    /// The same, whenever no request of [`run`](Self::run) would have to wait for it, which may be
    /// never: a long deadline is in order, and few inputs at a time, for each holds its tensor.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn run_in_background(
        &self,
        ask: impl Into<Ask>,
        deadline: Deadline,
    ) -> Result<Inference> {
        self.run_with(ask.into(), deadline, Priority::Background)
            .await
    }

    async fn run_with(
        &self,
        ask: Ask,
        deadline: Deadline,
        priority: Priority,
    ) -> Result<Inference> {
        let (reply, answer) = oneshot::channel();
        let entry = Entry {
            ask,
            deadline: deadline.at,
            queued_at: Instant::now(),
            span: tracing::Span::current(),
            waiting: tracing::debug_span!("queue"),
            reply,
        };
        let place = match self.queue().push(entry, priority) {
            Push::Queued(place) => place,
            Push::Full => {
                if priority == Priority::Foreground {
                    self.metrics.shed(ShedReason::QueueFull);
                }
                return Err(Error::Overloaded {
                    retry_after: self.load().predicted_wait,
                });
            }
            Push::Closed => return Err(Error::Draining),
        };
        let guard = Leaving {
            place,
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

    /// Counts an input that will be handed in soon, until the answer is dropped. Without it a crowd
    /// that arrives at once would find the queue empty, each and every one.
    pub fn announce(&self) -> Announced {
        let queue = Arc::clone(&self.entrance.0);
        queue.announce();
        Announced(queue)
    }

    /// How busy the engine is, for admission and metrics.
    pub fn load(&self) -> Load {
        self.queue().load(Instant::now())
    }

    /// The most inputs that run together.
    pub fn max_batch(&self) -> usize {
        self.queue().policy().max_batch.get()
    }

    /// The time of each batch size that has run, if only before the first request: pictures and
    /// seconds.
    pub fn curve(&self) -> Vec<(usize, f64)> {
        self.queue().curve()
    }

    /// Lets nothing more in and refuses what waits; only what runs is finished.
    pub fn refuse_waiting(&self) {
        for entry in self.queue().close_and_take() {
            // Whoever has left needs no refusal.
            let _ = entry.reply.send(Err(Error::Draining));
        }
    }

    /// Lets nothing more in. What is queued still runs, then the worker ends.
    pub fn close(&self) {
        self.queue().close();
    }

    fn queue(&self) -> &Queue {
        &self.entrance.0
    }
}

/// An input that is on its way to the queue.
#[derive(Debug)]
#[must_use = "it counts only until it is dropped"]
pub struct Announced(Arc<Queue>);

impl Drop for Announced {
    fn drop(&mut self) {
        self.0.retract();
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

/// Takes a request out of the queue when its future is dropped.
struct Leaving<'a> {
    place: Place,
    batcher: &'a Batcher,
    armed: bool,
}

impl Leaving<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }

    /// The deadline passed: out of the queue, but no client has left.
    fn withdraw(mut self) {
        self.armed = false;
        self.batcher.queue().remove(self.place);
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.armed {
            let was_waiting = self.batcher.queue().remove(self.place);
            // Behind a background input there is no client who could have left.
            if self.place.priority == Priority::Foreground {
                let stage = if was_waiting { "queue" } else { "inference" };
                self.batcher.metrics.abandoned(stage);
            }
        }
    }
}

#[cfg(test)]
mod tests;
