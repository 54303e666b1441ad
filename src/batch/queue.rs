//! The queue between requests and the worker: [`FairQueue`] behind a lock.
//!
//! Requests push from async tasks and never wait here: a full queue says so at once. A worker
//! thread, one for each engine, sleeps on a condition variable until something arrives or the queue
//! is closed.

use std::{
    iter,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use patchlight_engine::Engine;

use super::{
    Load, Policy, admission,
    fair_queue::{FairQueue, QueueEntry},
    latency_model::{BatchRun, LatencyModel},
    policy::EngineCounts,
    request::RequestNumber,
};

/// Which queue an item waits in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Priority {
    /// A client waits for the answer.
    Foreground,
    /// Runs on spare capacity.
    Background,
}

/// Identifies a queued entry, to remove it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) priority: Priority,
    number: u64,
}

/// The result of a push.
pub(super) enum PushResult {
    /// It waits here.
    Queued(Ticket),
    /// The queue is full.
    Full,
    /// The queue is closed for good.
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue {
    policy: Policy,
    /// Whether the engines' runs stand in line on one device.
    shared_device: bool,
    state: Mutex<State>,
    arrived: Condvar,
    /// See [`Load::reserved`].
    reserved: AtomicUsize,
    /// How many requests were numbered.
    requests: AtomicU64,
}

#[derive(Debug)]
struct State {
    foreground: FairQueue,
    background: FairQueue,
    latency: LatencyModel,
    /// What each engine runs, by its worker's number.
    running: Vec<Option<RunningBatch>>,
    closed: bool,
}

impl State {
    /// Seconds until each engine that runs something is free.
    fn busy(&self, now: Instant) -> impl Iterator<Item = f64> {
        self.running.iter().flatten().map(move |running| {
            let elapsed = now.saturating_duration_since(running.since);
            admission::free_in(&self.latency, running.size, elapsed)
        })
    }

    fn queue_mut(&mut self, priority: Priority) -> &mut FairQueue {
        match priority {
            Priority::Foreground => &mut self.foreground,
            Priority::Background => &mut self.background,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct RunningBatch {
    size: usize,
    since: Instant,
}

impl Queue {
    /// For these `engines`; `warm_up`: what each of them has run already.
    pub(super) fn new<E: Engine>(
        policy: Policy,
        engines: &[E],
        warm_up: &[(usize, Duration)],
    ) -> Self {
        let state = State {
            foreground: FairQueue::default(),
            background: FairQueue::default(),
            latency: LatencyModel::new(policy.max_batch.get(), warm_up),
            running: vec![None; engines.len()],
            closed: false,
        };
        Self {
            policy,
            shared_device: engines.iter().any(Engine::shares_device),
            state: Mutex::new(state),
            arrived: Condvar::new(),
            reserved: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
        }
    }

    /// A number that no other request of this queue has.
    pub(super) fn next_request(&self) -> RequestNumber {
        RequestNumber(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// An item is on its way, until [`release`](Self::release).
    pub(super) fn reserve(&self) {
        self.reserved.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.reserved.fetch_sub(1, Ordering::Relaxed);
    }

    /// The rule that closes batches.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn push(&self, entry: QueueEntry, priority: Priority) -> PushResult {
        let mut state = self.lock();
        if state.closed {
            return PushResult::Closed;
        }
        let queue = state.queue_mut(priority);
        if queue.len() >= self.policy.max_waiting.get() {
            return PushResult::Full;
        }
        let number = queue.push(entry);
        drop(state);
        self.arrived.notify_one();
        PushResult::Queued(Ticket { priority, number })
    }

    /// Takes an entry out again; whether it was still waiting.
    pub(super) fn remove(&self, ticket: Ticket) -> bool {
        let mut state = self.lock();
        state
            .queue_mut(ticket.priority)
            .remove(ticket.number)
            .is_some()
    }

    /// Blocks until there is a batch for this worker to run; `None` once the queue is closed and
    /// empty.
    pub(super) fn next_batch(&self, worker: usize) -> Option<Vec<QueueEntry>> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let engines = self.engines(&state);
            if let Some(hold) = self.hold(&state, now) {
                let woken = self.arrived.wait_timeout(state, hold);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let State {
                foreground,
                background,
                latency,
                ..
            } = &mut *state;
            let mut batch = foreground.take(now, |left| self.policy.close(left, latency, engines));
            let (taken, left) = (batch.len(), foreground.len());
            batch.extend(background.take(now, |waiting| match left {
                0 => self.policy.admit_background(taken, waiting.len(), latency),
                _ => 0,
            }));
            if !batch.is_empty() {
                state.running[worker] = Some(RunningBatch {
                    size: batch.len(),
                    since: now,
                });
                if left > 0 && engines.idle > 1 {
                    self.arrived.notify_one();
                }
                return Some(batch);
            }
            if state.closed {
                return None;
            }
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Engines that run at a time: those in line on one device are one.
    fn engines(&self, state: &State) -> EngineCounts {
        let idle = state.running.iter().filter(|running| running.is_none());
        match (self.shared_device, idle.count()) {
            (false, idle) => EngineCounts {
                total: state.running.len(),
                idle,
            },
            (true, idle) => EngineCounts {
                total: 1,
                idle: usize::from(idle == state.running.len()),
            },
        }
    }

    /// How long a worker leaves what waits to grow, because the device that it shares is busy.
    fn hold(&self, state: &State, now: Instant) -> Option<Duration> {
        let waiting = state.foreground.len();
        if !self.shared_device || state.closed || waiting + state.background.len() == 0 {
            return None;
        }
        let busy = Duration::from_secs_f64(state.busy(now).sum());
        let hold = self.policy.hold(waiting, busy);
        (!hold.is_zero()).then_some(hold)
    }

    /// The worker runs so many again that [`next_batch`](Self::next_batch) gave it before.
    pub(super) fn begin(&self, worker: usize, size: usize) {
        self.lock().running[worker] = Some(RunningBatch {
            size,
            since: Instant::now(),
        });
    }

    /// What this worker was given or [`began`](Self::begin) has ended. `run` is `None` where the
    /// time says nothing of the engine's speed.
    pub(super) fn finished(&self, worker: usize, run: Option<BatchRun>) {
        let mut state = self.lock();
        if let (Some(running), Some(run)) = (state.running[worker].take(), run) {
            state.latency.record(running.size, run);
        }
    }

    pub(super) fn load(&self, now: Instant) -> Load {
        let state = self.lock();
        let latency = &state.latency;
        let running = state.running.iter().flatten();
        let waiting = state.foreground.len();
        let reserved = self.reserved.load(Ordering::Relaxed);
        let ahead = waiting + reserved;
        let engines = self.engines(&state);
        let share = (ahead + 1).div_ceil(engines.total);
        let size = self.policy.size(ahead + 1, latency).min(share);
        let busy = state.busy(now);
        let free_in: Vec<f64> = match self.shared_device {
            true => vec![busy.sum()],
            false => {
                let idle = iter::repeat_n(0.0, engines.idle);
                busy.chain(idle).collect()
            }
        };
        Load {
            waiting,
            reserved,
            background: state.background.len(),
            idle: engines.idle,
            running: running.map(|running| running.size).sum(),
            predicted_wait: admission::predicted_wait(latency, size, ahead, free_in),
        }
    }

    /// Sizes that have run and their seconds, by size.
    pub(super) fn batch_latencies(&self) -> Vec<(usize, f64)> {
        self.lock().latency.measured().collect()
    }

    /// No more pushes; what waits is still run.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// No more pushes; what waits is handed over instead of being run.
    pub(super) fn close_and_take(&self) -> Vec<QueueEntry> {
        let mut state = self.lock();
        state.closed = true;
        let now = Instant::now();
        let mut waiting = state.foreground.take(now, <[_]>::len);
        waiting.extend(state.background.take(now, <[_]>::len));
        drop(state);
        self.arrived.notify_all();
        waiting
    }

    /// Nothing that holds this lock leaves the state half changed, so a panic elsewhere while it
    /// was held does no harm.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
