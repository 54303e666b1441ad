//! When to close a batch: a pure rule over what waits.

use std::{num::NonZeroUsize, time::Duration};

use super::curve::Curve;

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
pub(super) struct Engines {
    /// All of them.
    pub(super) all: usize,
    /// Those that run nothing, with the one that asks.
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
    /// By what part low-priority inputs may lengthen a batch.
    const UNNOTICED: f64 = 0.05;

    /// By what factor each input of a full batch has to be quicker than a single, for anybody to
    /// wait for others while few do.
    const WORTH: f64 = 1.05;

    /// How many of those that wait run now, an engine being free: `left` has the time that is left
    /// for each, in the order in which they would be taken.
    ///
    /// [`Batching::Auto`] takes the [`size`](Self::size) that the curve recommends, with two
    /// exceptions: if somebody would get no answer in time that way, the size with the highest
    /// throughput is taken; and a batch is never so long that it comes too late for one of its own
    /// who would be served in time by a shorter one. A size that has not run lately is tried when
    /// the queue is long enough for it and nobody's time is short. Engines that are idle at the same
    /// time share what waits.
    pub(super) fn close(&self, left: &[Duration], curve: &Curve, engines: Engines) -> usize {
        let waiting = left.len();
        let most = waiting.min(self.max_batch.get());
        if self.batching == Batching::Greedy {
            return most;
        }
        let most = most.min(waiting.div_ceil(engines.idle.max(1)));
        if let Some(size) = self.untried(&left[..most], curve) {
            return size;
        }
        let Some(single) = curve.seconds(1) else {
            return most;
        };
        let left: Vec<f64> = left.iter().map(Duration::as_secs_f64).collect();
        let size = match self.size(waiting, curve).min(most) {
            size if all_in_time(size, &left, single, curve, engines) => size,
            _ => fastest(most, curve),
        };
        timely(size, &left, single, curve)
    }

    /// The size of batches for so many that wait, whatever their deadlines.
    ///
    /// For [`Batching::Auto`] all of them where batches gain anything worth the name: what runs
    /// alone then takes time of the engine that those behind pay for, and at an engine with little
    /// to do few wait anyway. Where a batch of eight takes about eight times as long as a single it
    /// only makes the first in it wait for the last, and the size is one, unless two full batches
    /// wait already: then any gain counts. load-tests/grid.py compares this with fixed sizes.
    pub(super) fn size(&self, waiting: usize, curve: &Curve) -> usize {
        let largest = self.max_batch.get();
        let most = waiting.min(largest);
        if self.batching == Batching::Greedy {
            return most;
        }
        let worth = match waiting >= 2 * largest {
            true => ANY,
            false => Self::WORTH,
        };
        all_or_one(most, gain(largest, curve) >= worth)
    }

    /// How many of `background` low-priority inputs join a batch that takes `foreground` others,
    /// none of which is left waiting.
    ///
    /// Whoever waits for the batch, or arrives while it runs, must hardly notice: as many join as
    /// make it longer by no more than [`UNNOTICED`](Self::UNNOTICED). Where every input of a batch
    /// costs its own time that is none, and an idle engine runs them one by one; where a device
    /// takes several at the price of one they travel free. Sizes are judged by what is known of
    /// them and never tried out here.
    pub(super) fn fill(&self, foreground: usize, background: usize, curve: &Curve) -> usize {
        let idle = foreground == 0;
        let room = self.max_batch.get().saturating_sub(foreground);
        let most = background.min(room);
        let least = usize::from(idle && most > 0);
        let Some(allowed) = curve.seconds(foreground.max(1)) else {
            return least;
        };
        let allowed = allowed * (1.0 + Self::UNNOTICED);
        let unnoticed = |more: &usize| {
            let seconds = curve.seconds(foreground + more);
            seconds.is_some_and(|seconds| seconds <= allowed)
        };
        (1..=most)
            .take_while(unnoticed)
            .last()
            .unwrap_or_default()
            .max(least)
    }

    /// The smallest power of two up to all that wait, or the largest batch, that has not run lately;
    /// only where it is expected to take no more than half of anybody's time.
    fn untried(&self, left: &[Duration], curve: &Curve) -> Option<usize> {
        let largest = self.max_batch.get();
        let powers = (0..usize::BITS)
            .map(|n| 1_usize << n)
            .take_while(|&size| size < largest);
        let size = powers
            .chain([largest])
            .take_while(|&size| size <= left.len())
            .find(|&size| !curve.knows(size))?;
        let shortest = left[..size].iter().min()?.as_secs_f64();
        let bearable = curve
            .seconds(size)
            .is_none_or(|seconds| 2.0 * seconds <= shortest);
        bearable.then_some(size)
    }
}

/// The least gain that is more than rounding.
const ANY: f64 = 1.0 + 1e-9;

/// By what factor each input of a batch of `size` is quicker than a single; without end while
/// nothing is known.
fn gain(size: usize, curve: &Curve) -> f64 {
    match (curve.each(1), curve.each(size)) {
        (Some(single), Some(of_many)) => single / of_many,
        _ => f64::INFINITY,
    }
}

fn all_or_one(most: usize, all: bool) -> usize {
    if all { most } else { most.min(1) }
}

/// The size up to `most` with the highest throughput, which by the line is all or one.
fn fastest(most: usize, curve: &Curve) -> usize {
    all_or_one(most, gain(most, curve) >= ANY)
}

/// Whether batches of `size` serve everybody in time who would be if an engine took them alone
/// now. Nothing can be done for the others.
fn all_in_time(size: usize, left: &[f64], single: f64, curve: &Curve, engines: Engines) -> bool {
    let Some(seconds) = curve.seconds(size) else {
        return true;
    };
    let mut numbered = left.iter().enumerate();
    numbered.all(|(at, &left)| {
        let before = at.checked_div(size * engines.all).unwrap_or_default();
        let batches = before + 1;
        left < single || batches as f64 * seconds <= left
    })
}

/// The largest size up to `size` that ends in time for everybody in it who would be served in time
/// alone.
fn timely(size: usize, left: &[f64], single: f64, curve: &Curve) -> usize {
    let ends_in_time = |&size: &usize| {
        let seconds = curve.seconds(size).unwrap_or_default();
        let mut members = left[..size].iter();
        members.all(|&left| left < single || seconds <= left)
    };
    (1..=size).rev().find(ends_in_time).unwrap_or(size)
}

#[cfg(test)]
mod tests;
