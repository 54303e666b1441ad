//! When to ask again, and when to give up.

use std::time::Duration;

/// How often and after which pauses a request is sent again that failed for a reason that may pass.
/// Progress starts the count anew: a download of many hours may be interrupted any number of times.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retry {
    /// How often at the most without any progress.
    pub attempts: u32,
    /// The pause after the first failure; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause, also where the server asks for more.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
        }
    }
}

impl Retry {
    /// The pause after so many failures in a row (1 is the first); `None` is giving up. The server
    /// may have asked for a pause of its own, beyond which nothing is gained by asking.
    pub(crate) fn pause(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doubled = self
            .first_pause
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        match asked {
            Some(asked) if asked > self.longest_pause => None,
            Some(asked) => Some(asked.max(doubled.min(self.longest_pause))),
            None => Some(doubled.min(self.longest_pause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry {
        attempts: 4,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(3),
    };

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let pauses = [1, 2, 3, 4].map(|failures| RETRY.pause(failures, None));
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(pauses, [seconds(1), seconds(2), seconds(3), None]);
    }

    #[test]
    fn a_pause_that_the_server_asks_for_is_kept_or_given_up_at_once() {
        assert_eq!(
            RETRY.pause(1, Some(Duration::from_secs(2))),
            Some(Duration::from_secs(2))
        );
        assert_eq!(RETRY.pause(1, Some(Duration::from_secs(60))), None);
    }
}
