//! How long a newcomer would wait, from what is queued and how fast the engine has been.

use std::time::Duration;

/// How busy an engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Inputs that wait.
    pub waiting: usize,
    /// Inputs in the batch that runs now.
    pub running: usize,
    /// Time until a newcomer's answer would be ready; zero before anything was measured.
    pub predicted_wait: Duration,
}

/// The engine's speed as it was lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seconds_per_input: Option<f64>,
}

impl Pace {
    /// A batch's weight in the running mean. A few batches suffice to follow a change of speed,
    /// and one slow batch does not turn clients away.
    const WEIGHT: f64 = 0.2;

    /// Learns from a batch that ran.
    pub(super) fn learn(&mut self, batch_size: usize, ran: Duration) {
        let new = ran.as_secs_f64() / batch_size as f64;
        let old = self.seconds_per_input.unwrap_or(new);
        self.seconds_per_input = Some(old + Self::WEIGHT * (new - old));
    }

    /// Time until a newcomer's answer is ready, behind `waiting` others and a batch of `running`
    /// that started `elapsed` ago.
    pub(super) fn predict(&self, waiting: usize, running: usize, elapsed: Duration) -> Duration {
        let Some(each) = self.seconds_per_input else {
            return Duration::ZERO;
        };
        let remaining = (running as f64 * each - elapsed.as_secs_f64()).max(0.0);
        Duration::from_secs_f64(remaining + (waiting + 1) as f64 * each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn nothing_measured_predicts_nothing() {
        assert_eq!(Pace::default().predict(10, 3, MS(0)), Duration::ZERO);
    }

    #[test]
    fn an_idle_engine_takes_one_input_s_time() {
        let mut pace = Pace::default();
        pace.learn(4, MS(40));
        assert_eq!(pace.predict(0, 0, MS(0)), MS(10));
    }

    #[test]
    fn what_waits_and_what_remains_of_the_batch_add_up() {
        let mut pace = Pace::default();
        pace.learn(1, MS(10));
        assert_eq!(pace.predict(5, 4, MS(15)), MS(25 + 60));
    }

    #[test]
    fn a_batch_that_overruns_never_counts_negative() {
        let mut pace = Pace::default();
        pace.learn(1, MS(10));
        assert_eq!(pace.predict(0, 1, MS(500)), MS(10));
    }

    #[test]
    fn one_slow_batch_moves_the_prediction_by_a_fifth() {
        let mut pace = Pace::default();
        pace.learn(1, MS(10));
        pace.learn(1, MS(110));
        assert_eq!(pace.predict(0, 0, MS(0)), MS(30));
    }
}
