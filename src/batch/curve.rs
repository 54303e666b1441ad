//! How long a batch of each size takes, learned while serving.
//!
//! A size that has run is known by its own running mean. Between and beyond known sizes the curve
//! is the straight line `fixed + each · size` through them, which is what a device's start-up cost
//! and its throughput make it.

use std::time::Duration;

/// The engine's time for each batch size.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// Seconds by size, from 1; `None` where that size has not run.
    known: Vec<Option<f64>>,
}

impl Curve {
    /// A run's weight in the running mean. A few runs suffice to follow a change of speed, and one
    /// slow run does not turn clients away.
    const WEIGHT: f64 = 0.2;

    /// Nothing is known yet of batches up to `max_batch`.
    pub(super) fn new(max_batch: usize) -> Self {
        Self {
            known: vec![None; max_batch],
        }
    }

    /// Learns from a batch that ran.
    pub(super) fn learn(&mut self, size: usize, ran: Duration) {
        if let Some(known) = size.checked_sub(1).and_then(|at| self.known.get_mut(at)) {
            let new = ran.as_secs_f64();
            let old = known.unwrap_or(new);
            *known = Some(old + Self::WEIGHT * (new - old));
        }
    }

    /// Seconds for a batch of `size`; `None` while nothing at all is known.
    pub(super) fn seconds(&self, size: usize) -> Option<f64> {
        let own = size
            .checked_sub(1)
            .and_then(|at| self.known.get(at))
            .copied()
            .flatten();
        own.or_else(|| self.line().map(|(fixed, each)| fixed + each * size as f64))
    }

    /// Whether a batch of this size has run.
    pub(super) fn knows(&self, size: usize) -> bool {
        size.checked_sub(1)
            .and_then(|at| self.known.get(at))
            .is_some_and(Option::is_some)
    }

    /// Sizes that have run and their seconds.
    pub(super) fn points(&self) -> impl Iterator<Item = (usize, f64)> {
        self.known
            .iter()
            .enumerate()
            .filter_map(|(at, seconds)| Some((at + 1, (*seconds)?)))
    }

    /// Least squares through the known sizes. Neither part may be negative: noise in few points
    /// must not promise that a larger batch is quicker, or that small ones cost nothing.
    fn line(&self) -> Option<(f64, f64)> {
        let count = self.points().count() as f64;
        if count == 0.0 {
            return None;
        }
        let mean_size = self.points().map(|(size, _)| size as f64).sum::<f64>() / count;
        let mean_seconds = self.points().map(|(_, seconds)| seconds).sum::<f64>() / count;
        let through_zero = (0.0, mean_seconds / mean_size);
        let (mut over, mut under) = (0.0, 0.0);
        for (size, seconds) in self.points() {
            over += (size as f64 - mean_size) * (seconds - mean_seconds);
            under += (size as f64 - mean_size).powi(2);
        }
        if under == 0.0 {
            return Some(through_zero);
        }
        let each = over / under;
        let fixed = mean_seconds - each * mean_size;
        match (fixed >= 0.0, each >= 0.0) {
            (true, true) => Some((fixed, each)),
            (false, _) => Some(through_zero),
            (true, false) => Some((mean_seconds, 0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(usize, u64)]) -> Curve {
        let mut curve = Curve::new(16);
        for &(size, ms) in points {
            curve.learn(size, Duration::from_millis(ms));
        }
        curve
    }

    fn ms(curve: &Curve, size: usize) -> f64 {
        (curve.seconds(size).unwrap() * 1e6).round() / 1e3
    }

    #[test]
    fn nothing_is_known_of_an_engine_that_has_not_run() {
        assert_eq!(curve(&[]).seconds(1), None);
    }

    #[test]
    fn one_size_alone_is_taken_for_proportional() {
        let curve = curve(&[(2, 20)]);
        assert_eq!(
            (ms(&curve, 1), ms(&curve, 2), ms(&curve, 8)),
            (10.0, 20.0, 80.0)
        );
    }

    #[test]
    fn unknown_sizes_lie_on_the_line() {
        let curve = curve(&[(1, 12), (8, 26)]);
        assert_eq!((ms(&curve, 4), ms(&curve, 16)), (18.0, 42.0));
    }

    #[test]
    fn a_known_size_is_its_own_mean_even_off_the_line() {
        assert_eq!(ms(&curve(&[(1, 10), (2, 50), (4, 20)]), 2), 50.0);
    }

    #[test]
    fn noise_does_not_make_larger_batches_quicker_or_small_ones_free() {
        assert!(ms(&curve(&[(1, 20), (8, 10)]), 16) >= 10.0);
        assert!(ms(&curve(&[(4, 10), (8, 40)]), 1) > 0.0);
    }

    #[test]
    fn one_slow_run_moves_the_mean_by_a_fifth() {
        assert_eq!(ms(&curve(&[(1, 10), (1, 110)]), 1), 30.0);
    }

    #[test]
    fn sizes_beyond_the_largest_batch_are_not_kept() {
        assert_eq!(curve(&[(17, 10), (0, 10)]).points().count(), 0);
    }
}
