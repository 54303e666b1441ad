//! How slowly a client may send.

use std::time::Duration;

/// The slowest that a body may come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::http) struct Pace {
    /// This long nothing has to come.
    pub(in crate::http) grace: Duration,
    /// Then so many bytes a second since the beginning of it.
    pub(in crate::http) bytes_per_second: u64,
    /// And all within this time.
    pub(in crate::http) limit: Duration,
}

impl Pace {
    /// How long after its beginning more has to have come of a body of which so much is here.
    pub(in crate::http) fn due(&self, received: u64) -> Duration {
        let earned = received as f64 / self.bytes_per_second as f64;
        // Beyond what a duration can hold, the limit is what counts.
        let earned = Duration::try_from_secs_f64(earned).unwrap_or(Duration::MAX);
        self.grace.saturating_add(earned).min(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_buys_time_up_to_the_limit() {
        let pace = Pace {
            grace: Duration::from_secs(10),
            bytes_per_second: 4096,
            limit: Duration::from_secs(30),
        };
        assert_eq!(pace.due(0).as_secs(), 10);
        assert_eq!(pace.due(4096).as_secs(), 11);
        assert_eq!(pace.due(15 * 4096).as_secs(), 25);
        assert_eq!(pace.due(u64::MAX).as_secs(), 30);
        let short = Pace {
            limit: Duration::from_secs(2),
            ..pace
        };
        assert_eq!(short.due(0).as_secs(), 2);
    }
}
