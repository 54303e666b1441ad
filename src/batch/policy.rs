//! When to close a batch: a pure rule over what waits.

use std::{num::NonZeroUsize, time::Duration};

use super::latency_model::LatencyModel;

/// The rule and the bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How batches are closed.
    pub batching: Batching,
    /// The most inputs that one run takes.
    pub max_batch: NonZeroUsize,
    /// The most inputs that may wait. Each holds its tensor, so this bounds memory as well.
    pub max_waiting: NonZeroUsize,
}

/// The engines that take from a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct EngineCounts {
    /// All of them.
    pub(super) total: usize,
    /// Those that run nothing, including the one that asks.
    pub(super) idle: usize,
}

/// How batches are closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Batching {
    /// Everything that waits, up to the largest batch, as soon as the engine is free.
    Greedy,
    /// What the measured speed of each batch size and the deadlines recommend; [`Batching::Greedy`]
    /// until anything has been measured.
    Auto,
}

impl Policy {
    /// By what share background items may lengthen a batch.
    const MAX_BACKGROUND_SLOWDOWN: f64 = 0.05;

    /// By what factor an item of a full batch has to be faster than a single one for batching to be
    /// worth the wait while the queue is short.
    const MIN_BATCH_GAIN: f64 = 1.05;

    /// So long before a device is free its next batch is closed: gathering it and launching its
    /// kernels takes some milliseconds on a slow core.
    const HEAD_START: Duration = Duration::from_millis(4);

    /// How long a batch for a device that is busy for so long stays open, so many being in it: what
    /// arrives meanwhile joins it. A full one has nothing to wait for.
    pub(super) fn hold(&self, waiting: usize, busy: Duration) -> Duration {
        match waiting >= self.max_batch.get() {
            true => Duration::ZERO,
            false => busy.saturating_sub(Self::HEAD_START),
        }
    }

    /// How many of those that wait run now, an engine being free: `left` has the time that is left
    /// for each, in the order in which they would be taken.
    ///
    /// [`Batching::Auto`] takes the [`size`](Self::size) that the latency model recommends, with
    /// two exceptions: if a request would miss its deadline that way, the size with the highest
    /// throughput is taken; and a batch is never so long that one of its items misses a deadline
    /// that it would meet in a shorter one. A size that has not run lately is tried when the queue
    /// is long enough for it and no deadline is near. Engines that are idle at the same time share
    /// what waits.
    pub(super) fn close(
        &self,
        left: &[Duration],
        latency: &LatencyModel,
        engines: EngineCounts,
    ) -> usize {
        let waiting = left.len();
        let most = waiting.min(self.max_batch.get());
        if self.batching == Batching::Greedy {
            return most;
        }
        let most = most.min(waiting.div_ceil(engines.idle.max(1)));
        if let Some(size) = self.size_to_explore(&left[..most], latency) {
            return size;
        }
        let Some(single) = latency.seconds(1) else {
            return most;
        };
        let left: Vec<f64> = left.iter().map(Duration::as_secs_f64).collect();
        let size = match self.size(waiting, latency).min(most) {
            size if meets_deadlines(size, &left, single, latency, engines) => size,
            _ => highest_throughput(most, latency),
        };
        largest_in_time(size, &left, single, latency)
    }

    /// The size of batches for so many that wait, whatever their deadlines.
    ///
    /// For [`Batching::Auto`] all of them where batching gains noticeably: what runs alone then
    /// takes time of the engine that those behind pay for, and at an engine with little to do few
    /// wait anyway. Where a batch of eight takes about eight times as long as a single it only
    /// makes the first in it wait for the last, and the size is one, unless two full batches wait
    /// already: then any gain counts. load-tests/grid.py compares this with fixed sizes.
    pub(super) fn size(&self, waiting: usize, latency: &LatencyModel) -> usize {
        let largest = self.max_batch.get();
        let most = waiting.min(largest);
        if self.batching == Batching::Greedy {
            return most;
        }
        let least_gain = match waiting >= 2 * largest {
            true => SMALLEST_GAIN,
            false => Self::MIN_BATCH_GAIN,
        };
        all_or_one(most, gain(largest, latency) >= least_gain)
    }

    /// How many of `background` low-priority inputs join a batch that takes `foreground` others,
    /// none of which is left waiting.
    ///
    /// Requests that wait for the batch, or arrive while it runs, must not be slowed noticeably: as
    /// many join as make it longer by no more than
    /// [`MAX_BACKGROUND_SLOWDOWN`](Self::MAX_BACKGROUND_SLOWDOWN). Where every input of a batch
    /// costs its own time that is none, and an idle engine runs them one by one; where a device
    /// takes several at the price of one they cost nothing. Sizes are judged by what is known of
    /// them and never tried out here.
    pub(super) fn admit_background(
        &self,
        foreground: usize,
        background: usize,
        latency: &LatencyModel,
    ) -> usize {
        let idle = foreground == 0;
        let room = self.max_batch.get().saturating_sub(foreground);
        let most = background.min(room);
        let least = usize::from(idle && most > 0);
        let Some(allowed) = latency.seconds(foreground.max(1)) else {
            return least;
        };
        let allowed = allowed * (1.0 + Self::MAX_BACKGROUND_SLOWDOWN);
        let within_slowdown = |more: &usize| {
            let seconds = latency.seconds(foreground + more);
            seconds.is_some_and(|seconds| seconds <= allowed)
        };
        (1..=most)
            .take_while(within_slowdown)
            .last()
            .unwrap_or_default()
            .max(least)
    }

    /// The smallest power of two up to all that wait, or the largest batch, that has not run
    /// lately; only where it is expected to take no more than half of the time to any deadline.
    fn size_to_explore(&self, left: &[Duration], latency: &LatencyModel) -> Option<usize> {
        let largest = self.max_batch.get();
        let powers = (0..usize::BITS)
            .map(|n| 1_usize << n)
            .take_while(|&size| size < largest);
        let size = powers
            .chain([largest])
            .take_while(|&size| size <= left.len())
            .find(|&size| !latency.is_fresh(size))?;
        let shortest = left[..size].iter().min()?.as_secs_f64();
        let acceptable = latency
            .seconds(size)
            .is_none_or(|seconds| 2.0 * seconds <= shortest);
        acceptable.then_some(size)
    }
}

/// The least gain that is more than rounding.
const SMALLEST_GAIN: f64 = 1.0 + 1e-9;

/// By what factor each input of a batch of `size` is quicker than a single; infinite while nothing
/// is known.
fn gain(size: usize, latency: &LatencyModel) -> f64 {
    match (latency.per_item(1), latency.per_item(size)) {
        (Some(single), Some(of_many)) => single / of_many,
        _ => f64::INFINITY,
    }
}

fn all_or_one(most: usize, all: bool) -> usize {
    if all { most } else { most.min(1) }
}

/// The size up to `most` with the highest throughput, which by the line is all or one.
fn highest_throughput(most: usize, latency: &LatencyModel) -> usize {
    all_or_one(most, gain(most, latency) >= SMALLEST_GAIN)
}

/// Whether batches of `size` meet the deadline of every item that would meet it if it ran alone
/// now. The others miss it anyway.
fn meets_deadlines(
    size: usize,
    left: &[f64],
    single: f64,
    latency: &LatencyModel,
    engines: EngineCounts,
) -> bool {
    let Some(seconds) = latency.seconds(size) else {
        return true;
    };
    let mut numbered = left.iter().enumerate();
    numbered.all(|(at, &left)| {
        let before = at.checked_div(size * engines.total).unwrap_or_default();
        let batches = before + 1;
        left < single || batches as f64 * seconds <= left
    })
}

/// The largest size up to `size` that meets the deadline of every item in it that would meet it
/// alone.
fn largest_in_time(size: usize, left: &[f64], single: f64, latency: &LatencyModel) -> usize {
    let ends_in_time = |&size: &usize| {
        let seconds = latency.seconds(size).unwrap_or_default();
        let mut members = left[..size].iter();
        members.all(|&left| left < single || seconds <= left)
    };
    (1..=size).rev().find(ends_in_time).unwrap_or(size)
}

#[cfg(test)]
mod tests;
