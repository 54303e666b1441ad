//! What the queue's lock guards.

use std::time::{Duration, Instant};

use super::{
    super::{
        Policy, admission,
        fair_queue::{FairQueue, QueueEntry},
        lanes::{LaneId, Lanes},
        latency_model::LatencyModel,
        policy::EngineCounts,
    },
    Priority,
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) foreground: FairQueue,
    pub(super) background: FairQueue,
    /// Entries that failed alone and are for another lane than the one where they did.
    pub(super) failed: Vec<QueueEntry>,
    pub(super) latency: LatencyModel,
    pub(super) lanes: Lanes,
    /// What each engine runs, by its worker's number.
    pub(super) running: Vec<Option<RunningBatch>>,
    pub(super) closed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RunningBatch {
    pub(super) size: usize,
    since: Instant,
}

impl State {
    /// Seconds until a lane is free; `None` if it runs nothing.
    pub(super) fn busy(&self, lane: LaneId, now: Instant) -> Option<f64> {
        let workers = self.lanes.workers_of(lane);
        let running = workers.filter_map(|worker| self.running[worker]);
        let seconds = running.map(|running| {
            let elapsed = now.saturating_duration_since(running.since);
            admission::free_in(&self.latency, running.size, elapsed)
        });
        seconds.reduce(|a, b| a + b)
    }

    /// Lanes that serve, and how many of them are idle.
    pub(super) fn engines(&self) -> EngineCounts {
        let runs = |&worker: &usize| self.running[worker].is_some();
        let idle = |&lane: &LaneId| !self.lanes.workers_of(lane).any(|worker| runs(&worker));
        EngineCounts {
            total: self.lanes.open().count(),
            idle: self.lanes.open().filter(idle).count(),
        }
    }

    /// An entry that failed on another lane; once the queue is closed, or if there is no other lane,
    /// on this one.
    pub(super) fn take_failed(&mut self, lane: LaneId, now: Instant) -> Option<QueueEntry> {
        self.failed.retain(|entry| entry.is_wanted(now));
        let any = self.closed || !self.lanes.has_other(lane);
        let mut failed = self.failed.iter();
        let at = failed.position(|entry| any || entry.failed_on != Some(lane))?;
        Some(self.failed.remove(at))
    }

    pub(super) fn begin(&mut self, worker: usize, size: usize, now: Instant) {
        self.running[worker] = Some(RunningBatch { size, since: now });
    }

    pub(super) fn queue_mut(&mut self, priority: Priority) -> &mut FairQueue {
        match priority {
            Priority::Foreground => &mut self.foreground,
            Priority::Background => &mut self.background,
        }
    }

    /// How long a worker leaves what waits to grow, because the device that it shares is busy.
    pub(super) fn hold(&self, policy: &Policy, lane: LaneId, now: Instant) -> Option<Duration> {
        let waiting = self.foreground.len();
        let nothing = waiting + self.background.len() == 0;
        if !self.lanes.lane(lane).shared || self.closed || nothing {
            return None;
        }
        let busy = Duration::from_secs_f64(self.busy(lane, now).unwrap_or_default());
        let hold = policy.hold(waiting, busy);
        (!hold.is_zero()).then_some(hold)
    }
}
