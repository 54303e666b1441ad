//! The queue between requests and the worker: [`FairQueue`] behind a lock.
//!
//! Requests push from async tasks and never wait here: a full queue says so at once. A worker
//! thread, one for each engine, sleeps on a condition variable until something arrives or the queue
//! is closed.
//!
//! An item that fails alone is run once more on another lane, if there is one: the failure may have
//! been its device's.

mod state;

use std::{
    num::NonZeroUsize,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use patchlight_engine::Engine;

use self::state::State;
use super::{
    Load, Policy, WarmUp, admission,
    fair_queue::{FairQueue, QueueEntry},
    lanes::{DeviceState, LaneId, Lanes},
    latency_model::{BatchRun, LatencyModel},
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
    state: Mutex<State>,
    arrived: Condvar,
    /// See [`Load::reserved`].
    reserved: AtomicUsize,
    /// How many requests were numbered.
    requests: AtomicU64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum RunEnd {
    /// It gave its outputs.
    Succeeded(BatchRun),
    /// The device had no memory for it.
    OutOfMemory,
    /// Its time says nothing of the engine's speed.
    Failed,
}

impl Queue {
    /// For these `engines`; `warm_up`: what each of them has run already.
    pub(super) fn new<E: Engine>(policy: Policy, engines: &[E], warm_up: &WarmUp) -> Self {
        let max = policy.max_batch.get();
        let lanes = Lanes::new(engines, max, warm_up.largest.unwrap_or(max));
        let state = State {
            foreground: FairQueue::default(),
            background: FairQueue::default(),
            failed: Vec::new(),
            latency: LatencyModel::new(max, &warm_up.times),
            running: vec![None; lanes.workers()],
            lanes,
            closed: false,
        };
        Self {
            policy,
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
        self.wake(&state);
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
    /// empty, or the worker's lane is closed.
    pub(super) fn next_batch(&self, worker: usize) -> Option<Vec<QueueEntry>> {
        let mut state = self.lock();
        let lane = state.lanes.of(worker);
        loop {
            let now = Instant::now();
            if !state.lanes.is_open(lane) {
                return None;
            }
            if let Some(entry) = state.take_failed(lane, now) {
                state.begin(worker, 1, now);
                return Some(vec![entry]);
            }
            let engines = state.engines();
            let policy = self.policy_of(&state, lane, now);
            if let Some(hold) = state.hold(&policy, lane, now) {
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
            let mut batch = foreground.take(now, |left| policy.close(left, latency, engines));
            let (taken, left) = (batch.len(), foreground.len());
            batch.extend(background.take(now, |waiting| match left {
                0 => policy.admit_background(taken, waiting.len(), latency),
                _ => 0,
            }));
            if !batch.is_empty() {
                state.begin(worker, batch.len(), now);
                if left > 0 && engines.idle > 1 {
                    self.wake(&state);
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

    /// The rule for a lane, whose device may have no memory for the largest batch.
    fn policy_of(&self, state: &State, lane: LaneId, now: Instant) -> Policy {
        let limit = state.lanes.lane(lane).limit.at(now);
        Policy {
            max_batch: NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN),
            ..self.policy
        }
    }

    /// Something is there for any worker. One that would leave it to another lane must not be the
    /// only one to know.
    fn wake(&self, state: &State) {
        match state.lanes.may_hold() {
            true => self.arrived.notify_all(),
            false => self.arrived.notify_one(),
        }
    }

    /// An entry that failed alone on this worker's lane goes to another one, unless it has been
    /// there or there is none: then it is given back.
    pub(super) fn run_elsewhere(&self, worker: usize, mut entry: QueueEntry) -> Option<QueueEntry> {
        let mut state = self.lock();
        let lane = state.lanes.of(worker);
        if entry.failed_on.is_some() || !state.lanes.has_other(lane) {
            return Some(entry);
        }
        entry.failed_on = Some(lane);
        state.failed.push(entry);
        drop(state);
        // Whoever of the other lane sleeps.
        self.arrived.notify_all();
        None
    }

    /// This worker's engine is broken for good. Answers whether others serve.
    pub(super) fn close_lane(&self, worker: usize) -> bool {
        let mut state = self.lock();
        let lane = state.lanes.of(worker);
        state.running[worker] = None;
        if !state.lanes.has_other(lane) {
            return false;
        }
        state.lanes.close(lane);
        drop(state);
        self.arrived.notify_all();
        true
    }

    /// Whether this worker's lane serves.
    pub(super) fn is_open(&self, worker: usize) -> bool {
        let state = self.lock();
        state.lanes.is_open(state.lanes.of(worker))
    }

    /// Every device that serves or did.
    pub(super) fn devices(&self) -> Vec<DeviceState> {
        self.lock().lanes.devices()
    }

    /// The worker runs so many again that [`next_batch`](Self::next_batch) gave it before.
    pub(super) fn begin(&self, worker: usize, size: usize) {
        self.lock().begin(worker, size, Instant::now());
    }

    /// What this worker was given or [`began`](Self::begin) has ended. Answers the new limit of its
    /// lane's batches if it was lowered.
    pub(super) fn finished(&self, worker: usize, end: RunEnd) -> Option<usize> {
        let mut state = self.lock();
        let running = state.running[worker].take()?;
        let lane = state.lanes.of(worker);
        match end {
            RunEnd::Failed => None,
            RunEnd::Succeeded(run) => {
                state.latency.record(running.size, run);
                state
                    .lanes
                    .lane_mut(lane)
                    .limit
                    .ran(running.size, run.ended);
                None
            }
            RunEnd::OutOfMemory => {
                let limit = &mut state.lanes.lane_mut(lane).limit;
                limit.ran_out(running.size, Instant::now())
            }
        }
    }

    pub(super) fn load(&self, now: Instant) -> Load {
        let state = self.lock();
        let latency = &state.latency;
        let running = state.running.iter().flatten();
        let waiting = state.foreground.len();
        let reserved = self.reserved.load(Ordering::Relaxed);
        let ahead = waiting + reserved;
        let engines = state.engines();
        let share = (ahead + 1).div_ceil(engines.total.max(1));
        let size = self.policy.size(ahead + 1, latency).min(share);
        let largest = state.lanes.batch_limit(now);
        let size = largest.map_or(size, |largest| size.min(largest));
        let lanes = state.lanes.open();
        let free_in = lanes.map(|lane| state.busy(lane, now).unwrap_or_default());
        Load {
            waiting,
            reserved,
            background: state.background.len(),
            idle: engines.idle,
            running: running.map(|running| running.size).sum(),
            predicted_wait: admission::predicted_wait(latency, size, ahead, free_in.collect()),
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
        waiting.append(&mut state.failed);
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
