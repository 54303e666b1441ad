//! How long a new request would wait, from what is queued and how fast the engine has been.

use std::time::Duration;

use super::latency_model::LatencyModel;

/// How busy an engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Inputs that wait.
    pub waiting: usize,
    /// Background items that wait.
    pub background: usize,
    /// Inputs in the batches that run now.
    pub running: usize,
    /// Engines that run nothing.
    pub idle: usize,
    /// Items that were admitted and are still being received or decoded.
    pub reserved: usize,
    /// Time until a new request's answer would be ready; zero before anything was measured.
    pub predicted_wait: Duration,
}

impl Load {
    /// The share of a new request's time that may be planned for when others are ahead of it.
    /// Speeds drift, and decoding of later requests takes processor time; an admitted request has
    /// to be answered.
    const PLANNED_SHARE: f64 = 0.8;

    /// By how much the answer of a new request that has `left` would be too late; nothing if it is
    /// let in. `before` is the time until its image reaches the queue.
    ///
    /// An engine that would run it at once takes it however long it is thought to need: only a run
    /// can show that the engine has become quicker, and while nothing is let in nothing runs.
    pub fn excess(&self, before: Duration, left: Duration) -> Option<Duration> {
        let wait = match self.has_idle_engine() {
            true => before,
            false => before + self.predicted_wait,
        };
        let max_acceptable_wait = match self.waiting + self.running + self.reserved {
            // No other request can delay it, and rejecting it would help no other.
            0 => left,
            _ => left.mul_f64(Self::PLANNED_SHARE),
        };
        (wait > max_acceptable_wait).then(|| wait - max_acceptable_wait)
    }

    /// Whether an engine is idle that none of those who wait or come will take.
    fn has_idle_engine(&self) -> bool {
        self.idle > self.waiting + self.reserved
    }
}

/// Seconds until an engine is free that began a batch of `running` so long ago.
pub(super) fn free_in(latency: &LatencyModel, running: usize, elapsed: Duration) -> f64 {
    let takes = latency.seconds(running).unwrap_or_default();
    (takes - elapsed.as_secs_f64()).max(0.0)
}

/// Time until a new request's answer is ready, behind `waiting` others: batches of `size`, each by
/// the engine that is free first. `free_in` has the seconds until each engine is, of which there is
/// at least one.
pub(super) fn predicted_wait(
    latency: &LatencyModel,
    size: usize,
    waiting: usize,
    mut free_in: Vec<f64>,
) -> Duration {
    let size = size.max(1);
    let Some(seconds) = latency.seconds(size) else {
        return Duration::ZERO;
    };
    let mut answered = 0.0;
    for _ in 0..(waiting + 1).div_ceil(size) {
        let first = free_in.iter_mut().min_by(|a, b| a.total_cmp(b));
        let Some(first) = first else { break };
        *first += seconds;
        answered = *first;
    }
    Duration::from_secs_f64(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::latency_model::tests::run;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Behind one engine, which runs so many for so long already.
    fn wait(latency: &LatencyModel, waiting: usize, running: usize, elapsed: Duration) -> Duration {
        let free = match running {
            0 => 0.0,
            running => free_in(latency, running, elapsed),
        };
        predicted_wait(latency, 4.min(waiting + 1), waiting, vec![free])
    }

    /// 10 ms an input.
    fn latency() -> LatencyModel {
        let mut latency = LatencyModel::new(4, &[]);
        latency.record(4, run(MS(40)));
        latency
    }

    #[test]
    fn nothing_measured_predicts_nothing() {
        assert_eq!(
            wait(&LatencyModel::new(4, &[]), 10, 3, MS(0)),
            Duration::ZERO
        );
    }

    #[test]
    fn an_idle_engine_takes_one_input_s_time() {
        assert_eq!(wait(&latency(), 0, 0, MS(0)), MS(10));
    }

    #[test]
    fn what_waits_goes_in_whole_batches_after_what_runs() {
        // Five others and the new request are two batches of four.
        assert_eq!(wait(&latency(), 5, 4, MS(15)), MS(25 + 80));
    }

    #[test]
    fn each_batch_goes_to_the_engine_that_is_free_first() {
        let wait =
            |waiting, free_in: [f64; 2]| predicted_wait(&latency(), 1, waiting, free_in.to_vec());
        // One of two is idle.
        assert_eq!(wait(0, [0.025, 0.0]), MS(10));
        // 10 and 20 ms by the second, then 35 by the first and 30 by the second.
        assert_eq!(wait(2, [0.025, 0.0]), MS(30));
        assert_eq!(wait(3, [0.025, 0.0]), MS(35));
    }

    /// One engine, behind which an answer takes so long.
    fn load(predicted_wait: Duration) -> Load {
        Load {
            idle: 1,
            predicted_wait,
            ..Load::default()
        }
    }

    #[test]
    fn only_an_idle_engine_plans_for_all_the_time_there_is() {
        let idle = load(MS(100));
        assert_eq!(idle.excess(MS(0), MS(100)), None);
        for (waiting, running, reserved) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let busy = Load {
                waiting,
                running,
                reserved,
                idle: 1 - running,
                ..idle
            };
            assert_eq!(busy.excess(MS(0), MS(125)), None);
            assert_eq!(busy.excess(MS(0), MS(100)), Some(MS(20)));
        }
    }

    #[test]
    fn an_idle_engine_that_was_slow_once_is_asked_all_the_same() {
        // As after a run that something stopped for a minute.
        let idle = load(MS(60_000));
        assert_eq!(idle.excess(MS(0), MS(2000)), None);
        // What the decoders have to do first is no guess.
        assert_eq!(idle.excess(MS(2500), MS(2000)), Some(MS(500)));
        // One of two engines is idle.
        let half = Load { running: 4, ..idle };
        assert_eq!(half.excess(MS(0), MS(2000)), None);
    }

    #[test]
    fn an_idle_engine_that_others_will_take_is_no_reason() {
        for (waiting, reserved) in [(1, 0), (0, 1)] {
            let taken = Load {
                waiting,
                reserved,
                ..load(MS(3000))
            };
            assert_eq!(taken.excess(MS(0), MS(2000)), Some(MS(1400)));
            let two = Load { idle: 2, ..taken };
            assert_eq!(two.excess(MS(0), MS(2000)), None);
        }
    }

    #[test]
    fn a_batch_that_overruns_never_counts_negative() {
        assert_eq!(wait(&latency(), 0, 1, MS(500)), MS(10));
    }
}
