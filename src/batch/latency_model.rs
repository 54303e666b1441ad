//! How long a batch of each size takes, learned while serving.
//!
//! A size that has run is known by its own running mean. Between and beyond known sizes the model
//! is the straight line `fixed + per_item · size` through them, which is what a device's start-up
//! cost and its throughput make it. What ran before the first request is believed until its size
//! has served one: the first run of a session is slower than those that follow.
//!
//! No single run decides much. One that took far longer than expected counts for a few times what
//! was expected, and not at all if the process stood still meanwhile ([`BatchRun::stood_still`]).
//! What was learned counts for less and less as time goes by without a run.

use std::time::{Duration, Instant};

/// A batch that ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRun {
    /// How long it took.
    pub(super) took: Duration,
    /// The processor time that the process took meanwhile, where the system tells.
    pub(super) computed: Option<Duration>,
    /// When it ended.
    pub(super) ended: Instant,
}

impl BatchRun {
    /// A process that runs a batch computes for most of that time, and for a tenth of it where many
    /// others want the same processor.
    const LEAST_SHARE: u32 = 16;

    /// Whether the process was hardly on a processor: it was stopped, its container paused, its
    /// machine frozen, or its memory was being swapped in. That says nothing of the engine.
    fn stood_still(&self) -> bool {
        let computed = self.computed;
        computed.is_some_and(|computed| computed * Self::LEAST_SHARE < self.took)
    }
}

/// The engine's expected time for each batch size.
#[derive(Clone, Debug)]
pub(super) struct LatencyModel {
    /// By size, from 1; `None` where that size has not run.
    known: Vec<Option<SizeStats>>,
    /// Batches that served, of any size.
    batches: u64,
    /// When a run was last learned from.
    learned: Option<Instant>,
    /// When a run was last left out because the process stood still.
    left_out: Option<Instant>,
}

/// Statistics of one batch size.
#[derive(Clone, Copy, Debug)]
struct SizeStats {
    seconds: f64,
    /// How many batches it rests on, fewer as they grow old; none if it ran before the first
    /// request only.
    runs: f64,
    /// The number of the last of them; 0 if it ran before the first request only.
    last_run: u64,
}

impl LatencyModel {
    /// So many runs make a size as trustworthy as it gets. The next one then weighs a twentieth in
    /// the running mean, and that of all runs until there are so many. Sizes whose speeds differ by
    /// less than single runs do are told apart, and a change of speed is followed within seconds.
    const FULL_WEIGHT_RUNS: f64 = 19.0;

    /// A run counts for no more than so many times what was expected of it. A change for good is
    /// learned all the same, since what is expected grows with every run.
    const MAX_SURPRISE: f64 = 4.0;

    /// Seconds that no run is too long for.
    const NO_SURPRISE: f64 = 0.001;

    /// A run during which the process stood still is left out once in this time. What comes back
    /// sooner is no accident, such as a quota that stops the process ten times a second.
    const ACCIDENT: Duration = Duration::from_secs(60);

    /// A run that is so old counts half.
    const HALF_LIFE: Duration = Duration::from_secs(60);

    /// A size that has not run for so many batches is not known any more: it may have been judged
    /// by a moment when the machine was busy with something else.
    const STALE_AFTER_BATCHES: u64 = 1000;

    /// What batches up to `max_batch` took before the first request: `warm_up` has sizes and times.
    pub(super) fn new(max_batch: usize, warm_up: &[(usize, Duration)]) -> Self {
        let mut latency = Self {
            known: vec![None; max_batch],
            batches: 0,
            learned: None,
            left_out: None,
        };
        for (size, ran) in warm_up {
            if let Some(known) = latency.stats_mut(*size) {
                *known = Some(SizeStats {
                    seconds: ran.as_secs_f64(),
                    runs: 0.0,
                    last_run: 0,
                });
            }
        }
        latency
    }

    /// Learns from a batch that ran.
    pub(super) fn record(&mut self, size: usize, run: BatchRun) {
        let most = self
            .seconds(size)
            .map(|expected| (expected * Self::MAX_SURPRISE).max(Self::NO_SURPRISE));
        let took = run.took.as_secs_f64();
        if most.is_some_and(|most| took > most) && self.is_accident(run) {
            return;
        }
        let took = most.map_or(took, |most| took.min(most));
        self.grow_old(run.ended);
        self.batches += 1;
        let last_run = self.batches;
        let fresh = self.is_fresh(size);
        let Some(known) = self.stats_mut(size) else {
            return;
        };
        let (mean, runs) = match *known {
            Some(old) if fresh => (old.seconds, old.runs),
            _ => (took, 0.0),
        };
        *known = Some(SizeStats {
            seconds: mean + (took - mean) / (runs.min(Self::FULL_WEIGHT_RUNS) + 1.0),
            runs: runs + 1.0,
            last_run,
        });
    }

    /// Whether the run says nothing of the engine, if this has not happened a moment ago. Other
    /// engines' runs at the same time stood still with it and are the same accident.
    fn is_accident(&mut self, run: BatchRun) -> bool {
        let again = |at: Instant| at + run.took < run.ended && run.ended < at + Self::ACCIDENT;
        if !run.stood_still() || self.left_out.is_some_and(again) {
            return false;
        }
        self.left_out = Some(run.ended);
        true
    }

    /// Takes from the weight of what was learned what the time since then took.
    fn grow_old(&mut self, now: Instant) {
        let before = self.learned.replace(now).unwrap_or(now);
        let age = now.saturating_duration_since(before);
        let left = 0.5_f64.powf(age.div_duration_f64(Self::HALF_LIFE));
        for known in self.known.iter_mut().flatten() {
            // More runs than make a size trustworthy would outlive a change of speed.
            known.runs = known.runs.min(Self::FULL_WEIGHT_RUNS) * left;
        }
    }

    /// Seconds for a batch of `size`; `None` while nothing at all is known.
    pub(super) fn seconds(&self, size: usize) -> Option<f64> {
        let own = size
            .checked_sub(1)
            .and_then(|at| self.known.get(at))
            .copied()
            .flatten()
            .filter(|known| self.batches - known.last_run <= Self::STALE_AFTER_BATCHES);
        own.map(|known| known.seconds).or_else(|| {
            self.line()
                .map(|(fixed, per_item)| fixed + per_item * size as f64)
        })
    }

    /// Seconds for each input of a batch of `size`, by the line through all known sizes; `None`
    /// while nothing at all is known. For choosing a size: of means that each have their own noise
    /// the best is the luckiest one, and what ran while others kept the cores busy looks slow.
    pub(super) fn per_item(&self, size: usize) -> Option<f64> {
        let (fixed, per_item) = self.line()?;
        Some(fixed / size as f64 + per_item)
    }

    /// Whether a batch of this size has served lately.
    pub(super) fn is_fresh(&self, size: usize) -> bool {
        let known = size.checked_sub(1).and_then(|at| self.known.get(at));
        known.is_some_and(|known| {
            known.is_some_and(|known| {
                known.last_run > 0 && self.batches - known.last_run <= Self::STALE_AFTER_BATCHES
            })
        })
    }

    /// Sizes that have run and their seconds.
    pub(super) fn measured(&self) -> impl Iterator<Item = (usize, f64)> {
        let known = self.known.iter().enumerate();
        known.filter_map(|(at, known)| Some((at + 1, known.as_ref()?.seconds)))
    }

    fn stats_mut(&mut self, size: usize) -> Option<&mut Option<SizeStats>> {
        size.checked_sub(1).and_then(|at| self.known.get_mut(at))
    }

    /// Least squares through the known sizes, each with the weight of its runs, one at least.
    /// Neither part may be negative: noise in few points must not promise that a larger batch is
    /// quicker, or that small ones cost nothing.
    fn line(&self) -> Option<(f64, f64)> {
        let known = self.known.iter().zip(1_u32..);
        let measured = || {
            known.clone().filter_map(|(known, size)| {
                let SizeStats { seconds, runs, .. } = (*known)?;
                Some((
                    runs.clamp(1.0, Self::FULL_WEIGHT_RUNS),
                    f64::from(size),
                    seconds,
                ))
            })
        };
        let weight: f64 = measured().map(|(weight, ..)| weight).sum();
        if weight == 0.0 {
            return None;
        }
        let mean = |of: fn(f64, f64) -> f64| {
            let parts = measured().map(|(weight, size, seconds)| weight * of(size, seconds));
            parts.sum::<f64>() / weight
        };
        let mean_size = mean(|size, _| size);
        let mean_seconds = mean(|_, seconds| seconds);
        let through_zero = (0.0, mean_seconds / mean_size);
        let (mut over, mut under) = (0.0, 0.0);
        for (weight, size, seconds) in measured() {
            over += weight * (size - mean_size) * (seconds - mean_seconds);
            under += weight * (size - mean_size).powi(2);
        }
        if under == 0.0 {
            return Some(through_zero);
        }
        let per_item = over / under;
        let fixed = mean_seconds - per_item * mean_size;
        match (fixed >= 0.0, per_item >= 0.0) {
            (true, true) => Some((fixed, per_item)),
            (false, _) => Some(through_zero),
            (true, false) => Some((mean_seconds, 0.0)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
