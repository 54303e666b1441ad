//! The queue between requests and the worker: [`Pending`] behind a lock.
//!
//! Requests push from async tasks and never wait here: a full queue says so at once. A worker
//! thread, one for each engine, sleeps on a condition variable until something arrives or the queue
//! is closed.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Load, Policy, admission,
    curve::{Curve, Run},
    pending::{Entry, Pending},
    policy::Engines,
};

/// Who comes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Priority {
    /// Somebody waits for the answer.
    Foreground,
    /// Whatever the others leave is enough.
    Background,
}

/// Where an entry waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) priority: Priority,
    number: u64,
}

/// What became of an entry that was pushed.
pub(super) enum Push {
    /// It waits here.
    Queued(Place),
    /// As many wait as may.
    Full,
    /// The queue is closed for good.
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue {
    policy: Policy,
    state: Mutex<State>,
    arrived: Condvar,
    /// See [`Load::announced`].
    announced: AtomicUsize,
}

#[derive(Debug)]
struct State {
    foreground: Pending,
    background: Pending,
    curve: Curve,
    /// What each engine runs, by its worker's number.
    running: Vec<Option<Running>>,
    closed: bool,
}

impl State {
    fn engines(&self) -> Engines {
        let idle = self.running.iter().filter(|running| running.is_none());
        Engines {
            all: self.running.len(),
            idle: idle.count(),
        }
    }

    fn of(&mut self, priority: Priority) -> &mut Pending {
        match priority {
            Priority::Foreground => &mut self.foreground,
            Priority::Background => &mut self.background,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Running {
    size: usize,
    since: Instant,
}

impl Queue {
    /// For so many `engines`; `warm_up`: what each of them has run already.
    pub(super) fn new(policy: Policy, engines: usize, warm_up: &[(usize, Duration)]) -> Self {
        let state = State {
            foreground: Pending::default(),
            background: Pending::default(),
            curve: Curve::new(policy.max_batch.get(), warm_up),
            running: vec![None; engines],
            closed: false,
        };
        Self {
            policy,
            state: Mutex::new(state),
            arrived: Condvar::new(),
            announced: AtomicUsize::new(0),
        }
    }

    /// An input is on its way, until [`retract`](Self::retract).
    pub(super) fn announce(&self) {
        self.announced.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retract(&self) {
        self.announced.fetch_sub(1, Ordering::Relaxed);
    }

    /// The rule that closes batches.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn push(&self, entry: Entry, priority: Priority) -> Push {
        let mut state = self.lock();
        if state.closed {
            return Push::Closed;
        }
        let pending = state.of(priority);
        if pending.len() >= self.policy.max_waiting.get() {
            return Push::Full;
        }
        let number = pending.push(entry);
        drop(state);
        self.arrived.notify_one();
        Push::Queued(Place { priority, number })
    }

    /// Takes an entry out again; whether it was still waiting.
    pub(super) fn remove(&self, place: Place) -> bool {
        let mut state = self.lock();
        state.of(place.priority).remove(place.number).is_some()
    }

    /// Blocks until there is a batch for this worker to run; `None` once the queue is closed and
    /// empty.
    pub(super) fn next_batch(&self, worker: usize) -> Option<Vec<Entry>> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let engines = state.engines();
            let State {
                foreground,
                background,
                curve,
                ..
            } = &mut *state;
            let mut batch = foreground.take(now, |left| self.policy.close(left, curve, engines));
            let (taken, left) = (batch.len(), foreground.len());
            batch.extend(background.take(now, |waiting| match left {
                0 => self.policy.fill(taken, waiting.len(), curve),
                _ => 0,
            }));
            if !batch.is_empty() {
                state.running[worker] = Some(Running {
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

    /// The worker runs so many again that [`next_batch`](Self::next_batch) gave it before.
    pub(super) fn begin(&self, worker: usize, size: usize) {
        self.lock().running[worker] = Some(Running {
            size,
            since: Instant::now(),
        });
    }

    /// What this worker was given or [`began`](Self::begin) has ended. `run` is `None` where the time
    /// says nothing of the engine's speed.
    pub(super) fn finished(&self, worker: usize, run: Option<Run>) {
        let mut state = self.lock();
        if let (Some(running), Some(run)) = (state.running[worker].take(), run) {
            state.curve.learn(running.size, run);
        }
    }

    pub(super) fn load(&self, now: Instant) -> Load {
        let state = self.lock();
        let curve = &state.curve;
        let running = state.running.iter().flatten();
        let waiting = state.foreground.len();
        let announced = self.announced.load(Ordering::Relaxed);
        let ahead = waiting + announced;
        let share = (ahead + 1).div_ceil(state.running.len());
        let size = self.policy.size(ahead + 1, curve).min(share);
        let free_in = state.running.iter().map(|running| match running {
            Some(running) => {
                let elapsed = now.saturating_duration_since(running.since);
                admission::free_in(curve, running.size, elapsed)
            }
            None => 0.0,
        });
        Load {
            waiting,
            announced,
            background: state.background.len(),
            idle: state.engines().idle,
            running: running.map(|running| running.size).sum(),
            predicted_wait: admission::predicted_wait(curve, size, ahead, free_in.collect()),
        }
    }

    /// Sizes that have run and their seconds, by size.
    pub(super) fn curve(&self) -> Vec<(usize, f64)> {
        self.lock().curve.points().collect()
    }

    /// No more pushes; what waits is still run.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// No more pushes; what waits is handed over instead of being run.
    pub(super) fn close_and_take(&self) -> Vec<Entry> {
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
