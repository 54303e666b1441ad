//! When the requests of an open loop are due.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    /// Evenly spaced
    Constant,
    /// Exponentially distributed gaps: many independent clients
    Poisson,
}

/// Offsets from the start, in order and without end, at `rate` a second.
pub(crate) fn schedule(
    arrivals: Arrivals,
    rate: f64,
    seed: u64,
) -> Box<dyn Iterator<Item = Duration> + Send> {
    match arrivals {
        // From the index and not by adding gaps up, so that no rounding accumulates.
        Arrivals::Constant => {
            Box::new((0_u32..).map(move |n| Duration::from_secs_f64(f64::from(n) / rate)))
        }
        Arrivals::Poisson => {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut at = 0.0;
            Box::new(std::iter::repeat_with(move || {
                // 1 − u lies in (0, 1], where the logarithm is finite.
                at -= (1.0 - random.f64()).ln() / rate;
                Duration::from_secs_f64(at)
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(arrivals: Arrivals, rate: f64, seed: u64, seconds: u64) -> Vec<Duration> {
        schedule(arrivals, rate, seed)
            .take_while(|at| *at < Duration::from_secs(seconds))
            .collect()
    }

    #[test]
    fn constant_arrivals_start_at_once_and_keep_their_spacing() {
        let offsets = offsets(Arrivals::Constant, 8.0, 1, 1);
        assert_eq!(
            offsets,
            (0..8)
                .map(|n| Duration::from_millis(125 * n))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn constant_arrivals_do_not_drift_over_an_hour_at_a_rate_that_is_no_binary_fraction() {
        assert_eq!(
            schedule(Arrivals::Constant, 10.0, 1).nth(36_000),
            Some(Duration::from_secs(3600))
        );
    }

    #[test]
    fn poisson_counts_have_the_rate_as_mean_and_as_variance() {
        let offsets = offsets(Arrivals::Poisson, 50.0, 7, 2000);
        let mut counts = vec![0.0; 2000];
        for at in &offsets {
            counts[usize::try_from(at.as_secs()).unwrap()] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / 2000.0;
        let variance = counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 2000.0;
        // Four standard errors of either estimate.
        assert!((mean - 50.0).abs() < 0.7, "mean {mean}");
        assert!((variance - 50.0).abs() < 6.5, "variance {variance}");
    }

    #[test]
    fn poisson_arrivals_are_in_order_and_repeat_with_their_seed_only() {
        let first = offsets(Arrivals::Poisson, 100.0, 3, 10);
        assert!(first.is_sorted());
        assert_eq!(first, offsets(Arrivals::Poisson, 100.0, 3, 10));
        assert_ne!(first, offsets(Arrivals::Poisson, 100.0, 4, 10));
    }
}
