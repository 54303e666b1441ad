//! How long a batch of each size takes, learned while serving.
//!
//! A size that has run is known by its own running mean. Between and beyond known sizes the curve
//! is the straight line `fixed + each · size` through them, which is what a device's start-up cost
//! and its throughput make it. What ran before the first request is believed until its size has
//! served one: the first run of a session is slower than those that follow.

use std::time::Duration;

/// The engine's time for each batch size.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// By size, from 1; `None` where that size has not run.
    known: Vec<Option<Known>>,
    /// Batches that served, of any size.
    batches: u64,
}

/// What is known of one size.
#[derive(Clone, Copy, Debug)]
struct Known {
    seconds: f64,
    /// Batches behind it; none if it ran before the first request only.
    runs: u64,
    /// The number of the last of them.
    last: u64,
}

impl Curve {
    /// A run's least weight in the running mean, which is that of all runs until there are twenty.
    /// Sizes whose speeds differ by less than single runs do are told apart, a change of speed is
    /// followed within seconds, and one slow run does not turn clients away.
    const WEIGHT: f64 = 0.05;

    /// So many runs make a size as trustworthy as it gets, since the mean forgets older ones.
    const TRUSTED: u64 = 20;

    /// A size that has not run for so many batches is not known any more: it may have been judged
    /// by a moment when the machine was busy with something else.
    const FORGOTTEN: u64 = 1000;

    /// What batches up to `max_batch` took before the first request: `warm_up` has sizes and times.
    pub(super) fn new(max_batch: usize, warm_up: &[(usize, Duration)]) -> Self {
        let mut curve = Self {
            known: vec![None; max_batch],
            batches: 0,
        };
        for (size, ran) in warm_up {
            if let Some(known) = curve.of(*size) {
                *known = Some(Known {
                    seconds: ran.as_secs_f64(),
                    runs: 0,
                    last: 0,
                });
            }
        }
        curve
    }

    /// Learns from a batch that ran.
    pub(super) fn learn(&mut self, size: usize, ran: Duration) {
        self.batches += 1;
        let last = self.batches;
        let fresh = self.knows(size);
        let Some(known) = self.of(size) else { return };
        let seconds = ran.as_secs_f64();
        *known = match *known {
            Some(old) if fresh => {
                let runs = old.runs + 1;
                let weight = Self::WEIGHT.max(1.0 / runs as f64);
                Some(Known {
                    seconds: old.seconds + weight * (seconds - old.seconds),
                    runs,
                    last,
                })
            }
            _ => Some(Known {
                seconds,
                runs: 1,
                last,
            }),
        };
    }

    /// Seconds for a batch of `size`; `None` while nothing at all is known.
    pub(super) fn seconds(&self, size: usize) -> Option<f64> {
        let own = size
            .checked_sub(1)
            .and_then(|at| self.known.get(at))
            .copied()
            .flatten();
        own.map(|known| known.seconds)
            .or_else(|| self.line().map(|(fixed, each)| fixed + each * size as f64))
    }

    /// Seconds for each input of a batch of `size`, by the line through all known sizes; `None`
    /// while nothing at all is known. For choosing a size: of means that each have their own noise
    /// the best is the luckiest one, and what ran while others kept the cores busy looks slow.
    pub(super) fn each(&self, size: usize) -> Option<f64> {
        let (fixed, each) = self.line()?;
        Some(fixed / size as f64 + each)
    }

    /// Whether a batch of this size has served lately.
    pub(super) fn knows(&self, size: usize) -> bool {
        let known = size.checked_sub(1).and_then(|at| self.known.get(at));
        known.is_some_and(|known| {
            known
                .is_some_and(|known| known.runs > 0 && self.batches - known.last <= Self::FORGOTTEN)
        })
    }

    /// Sizes that have run and their seconds.
    pub(super) fn points(&self) -> impl Iterator<Item = (usize, f64)> {
        let known = self.known.iter().enumerate();
        known.filter_map(|(at, known)| Some((at + 1, known.as_ref()?.seconds)))
    }

    fn of(&mut self, size: usize) -> Option<&mut Option<Known>> {
        size.checked_sub(1).and_then(|at| self.known.get_mut(at))
    }

    /// Least squares through the known sizes, each with the weight of its runs. Neither part may be
    /// negative: noise in few points must not promise that a larger batch is quicker, or that small
    /// ones cost nothing.
    fn line(&self) -> Option<(f64, f64)> {
        let known = self.known.iter().zip(1_u32..);
        let points = || {
            known.clone().filter_map(|(known, size)| {
                let Known { seconds, runs, .. } = (*known)?;
                Some((
                    runs.clamp(1, Self::TRUSTED) as f64,
                    f64::from(size),
                    seconds,
                ))
            })
        };
        let weight: f64 = points().map(|(weight, ..)| weight).sum();
        if weight == 0.0 {
            return None;
        }
        let mean = |of: fn(f64, f64) -> f64| {
            let parts = points().map(|(weight, size, seconds)| weight * of(size, seconds));
            parts.sum::<f64>() / weight
        };
        let mean_size = mean(|size, _| size);
        let mean_seconds = mean(|_, seconds| seconds);
        let through_zero = (0.0, mean_seconds / mean_size);
        let (mut over, mut under) = (0.0, 0.0);
        for (weight, size, seconds) in points() {
            over += weight * (size - mean_size) * (seconds - mean_seconds);
            under += weight * (size - mean_size).powi(2);
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
        let mut curve = Curve::new(16, &[]);
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
    fn sizes_are_chosen_by_the_line_in_which_many_runs_weigh_more() {
        // 10 + 2 · size, and one run of 4 that something disturbed.
        let mut many = [(1, 12), (2, 14), (8, 26)].repeat(20);
        many.push((4, 60));
        let curve = curve(&many);
        for (size, ms) in [(1, 12.0), (4, 18.0 / 4.0), (8, 26.0 / 8.0)] {
            let each = curve.each(size).unwrap() * 1e3;
            assert!((each / ms - 1.0).abs() < 0.1, "{size}: {each}");
        }
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
    fn a_few_runs_are_averaged_and_later_ones_weigh_a_twentieth() {
        assert_eq!(ms(&curve(&[(1, 10), (1, 20), (1, 60)]), 1), 30.0);
        let mut long = curve(&[(1, 10); 100]);
        long.learn(1, Duration::from_millis(110));
        assert_eq!(ms(&long, 1), 15.0);
    }

    #[test]
    fn what_ran_before_the_first_request_is_believed_until_that_size_serves() {
        let first_run = [(1, Duration::from_millis(40))];
        let mut curve = Curve::new(8, &first_run);
        assert_eq!((ms(&curve, 1), ms(&curve, 8)), (40.0, 320.0));
        assert!(!curve.knows(1));
        curve.learn(1, Duration::from_millis(10));
        assert_eq!(ms(&curve, 1), 10.0);
        assert!(curve.knows(1));
    }

    #[test]
    fn a_size_that_has_not_run_for_long_is_judged_anew() {
        let mut curve = curve(&[(8, 800)]);
        for _ in 0..1000 {
            curve.learn(1, Duration::from_millis(10));
        }
        assert!(curve.knows(8));
        curve.learn(1, Duration::from_millis(10));
        assert!(!curve.knows(8));
        assert_eq!(ms(&curve, 8), 800.0, "until it has run again");
        curve.learn(8, Duration::from_millis(40));
        assert_eq!(ms(&curve, 8), 40.0);
    }

    #[test]
    fn sizes_beyond_the_largest_batch_are_not_kept() {
        assert_eq!(curve(&[(17, 10), (0, 10)]).points().count(), 0);
    }
}
