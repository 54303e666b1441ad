//! Devices behind a queue: plain lists with rules, apart from locks.
//!
//! A lane is what runs one batch at a time: an engine that has its device to itself, or a shared
//! device on which the batches of several engines stand in line. A lane whose engine is broken for
//! good is closed, and the others go on.

use std::time::Instant;

use patchlight_engine::{Device, Engine};

use super::batch_limit::BatchLimit;

/// A lane, by its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LaneId(usize);

/// A device that serves, or did, for metrics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceState {
    /// Which.
    pub device: Device,
    /// Whether any engine on it serves.
    pub up: bool,
    /// The largest batch that it takes.
    pub batch_limit: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    device: Device,
    /// Whether several engines' batches stand in line here.
    pub(super) shared: bool,
    /// Broken for good.
    closed: bool,
    pub(super) limit: BatchLimit,
}

/// The lanes of a queue, and which worker has which.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    of_worker: Vec<LaneId>,
}

impl Lanes {
    /// For these `engines`, one worker each, in their order. All take batches up to `max`, of which
    /// those up to `fits` are known to fit.
    pub(super) fn new<E: Engine>(engines: &[E], max: usize, fits: usize) -> Self {
        let limit = BatchLimit::new(max, fits, Instant::now());
        let mut lanes: Vec<Lane> = Vec::with_capacity(engines.len());
        let of_worker = engines.iter().map(|engine| {
            let (device, shared) = (engine.device(), engine.shares_device());
            let same = |lane: &Lane| shared && lane.shared && lane.device == device;
            let place = lanes.iter().position(same).unwrap_or_else(|| {
                lanes.push(Lane {
                    device,
                    shared,
                    closed: false,
                    limit,
                });
                lanes.len() - 1
            });
            LaneId(place)
        });
        let of_worker = of_worker.collect();
        Self { lanes, of_worker }
    }

    pub(super) fn workers(&self) -> usize {
        self.of_worker.len()
    }

    pub(super) fn of(&self, worker: usize) -> LaneId {
        self.of_worker[worker]
    }

    pub(super) fn lane(&self, id: LaneId) -> &Lane {
        &self.lanes[id.0]
    }

    pub(super) fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        &mut self.lanes[id.0]
    }

    /// Workers of a lane.
    pub(super) fn workers_of(&self, id: LaneId) -> impl Iterator<Item = usize> {
        let workers = self.of_worker.iter().enumerate();
        workers.filter_map(move |(worker, lane)| (*lane == id).then_some(worker))
    }

    /// Lanes that serve.
    pub(super) fn open(&self) -> impl Iterator<Item = LaneId> {
        let lanes = self.lanes.iter().enumerate();
        lanes.filter_map(|(place, lane)| (!lane.closed).then_some(LaneId(place)))
    }

    pub(super) fn is_open(&self, id: LaneId) -> bool {
        !self.lane(id).closed
    }

    /// Whether a lane serves that is not this one.
    pub(super) fn has_other(&self, id: LaneId) -> bool {
        self.open().any(|open| open != id)
    }

    /// Its engine is broken for good.
    pub(super) fn close(&mut self, id: LaneId) {
        self.lane_mut(id).closed = true;
    }

    /// Whether a worker may leave to another lane what it is woken for.
    pub(super) fn may_hold(&self) -> bool {
        self.lanes.len() > 1 && self.lanes.iter().any(|lane| lane.shared)
    }

    /// The smallest limit of those that serve.
    pub(super) fn batch_limit(&self, now: Instant) -> Option<usize> {
        self.open().map(|id| self.lane(id).limit.at(now)).min()
    }

    /// Each device once, in the order of its first engine.
    pub(super) fn devices(&self) -> Vec<DeviceState> {
        let mut devices: Vec<DeviceState> = Vec::new();
        for lane in &self.lanes {
            let (up, batch_limit) = (!lane.closed, lane.limit.fits());
            match devices.iter_mut().find(|known| known.device == lane.device) {
                Some(known) => {
                    known.up |= up;
                    known.batch_limit = known.batch_limit.min(batch_limit);
                }
                None => devices.push(DeviceState {
                    device: lane.device,
                    up,
                    batch_limit,
                }),
            }
        }
        devices
    }
}
