//! The rate limit of one key: a token bucket, apart from locks and clocks.

use std::time::{Duration, Instant};

/// So many images in the long run, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quota {
    /// Images a second.
    pub(super) rate: f64,
    /// Images that may come at once after a rest; at least 1.
    pub(super) burst: f64,
}

impl Quota {
    /// Without a burst of its own, one second's worth.
    pub(super) fn new(rate: f64, burst: Option<f64>) -> Self {
        Self {
            rate,
            burst: burst.unwrap_or(rate).max(1.0),
        }
    }
}

/// What is left of a [`Quota`].
#[derive(Debug)]
pub(super) struct TokenBucket {
    pub(super) quota: Quota,
    /// Below 0 after a request turned out to bring several images.
    left: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(super) fn new(quota: Quota, now: Instant) -> Self {
        Self {
            quota,
            left: quota.burst,
            at: now,
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// When none is left: the time until there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - self.left) / self.quota.rate;
        // Only a rate next to nothing makes more seconds than a Duration holds.
        Err(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// Charges more for a request that was admitted already; the bucket may go below zero.
    pub(super) fn charge(&mut self, count: usize, now: Instant) {
        self.refill(now);
        self.left -= count as f64;
    }

    fn refill(&mut self, now: Instant) {
        let rested = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + rested * self.quota.rate).min(self.quota.burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(bucket: &mut TokenBucket, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| bucket.take(now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Quota::new(2.0, Some(5.0)), start);
        assert_eq!(taken(&mut bucket, 10, start), 5);
        assert_eq!(bucket.take(start), Err(SECOND / 2));
        assert_eq!(taken(&mut bucket, 10, start + SECOND), 2);
    }

    #[test]
    fn rest_never_saves_up_more_than_a_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Quota::new(2.0, Some(5.0)), start);
        assert_eq!(taken(&mut bucket, 100, start + 3600 * SECOND), 5);
    }

    #[test]
    fn the_time_that_is_named_is_the_time_that_it_takes() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Quota::new(0.5, None), start);
        assert_eq!(bucket.take(start), Ok(()));
        let wait = bucket.take(start).unwrap_err();
        assert_eq!(wait, 2 * SECOND);
        let nearly = start + wait - SECOND / 1000;
        assert!(bucket.take(nearly).is_err());
        assert_eq!(bucket.take(start + wait), Ok(()));
    }

    #[test]
    fn many_images_in_one_request_are_paid_for_later() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Quota::new(1.0, Some(2.0)), start);
        bucket.take(start).unwrap();
        bucket.charge(15, start);
        // 14 are owed and one more is wanted.
        assert_eq!(bucket.take(start), Err(15 * SECOND));
    }
}
