//! How long a newcomer would wait, from what is queued and how fast the engine has been.

use std::time::Duration;

use super::curve::Curve;

/// How busy an engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Inputs that wait.
    pub waiting: usize,
    /// Low-priority inputs that wait for whatever the others leave.
    pub background: usize,
    /// Inputs in the batches that run now.
    pub running: usize,
    /// Engines that run nothing.
    pub idle: usize,
    /// Inputs that were let in and are still being received or decoded.
    pub announced: usize,
    /// Time until a newcomer's answer would be ready; zero before anything was measured.
    pub predicted_wait: Duration,
}

impl Load {
    /// How much of a newcomer's time may be planned for when others are before it. Speeds drift, and
    /// decoding what comes meanwhile takes processor time; whoever is let in is to be answered.
    const PLANNED: f64 = 0.8;

    /// By how much the answer of a newcomer who has `left` would be too late; nothing if it is let
    /// in. `before` is the time until its picture reaches the queue.
    ///
    /// An engine that would run it at once takes it however long it is thought to need: only a run
    /// can show that the engine has become quicker, and while nothing is let in nothing runs.
    pub fn excess(&self, before: Duration, left: Duration) -> Option<Duration> {
        let wait = match self.has_idle_engine() {
            true => before,
            false => before + self.predicted_wait,
        };
        let bearable = match self.waiting + self.running + self.announced {
            // Nobody else can spoil it, and refusing would help nobody.
            0 => left,
            _ => left.mul_f64(Self::PLANNED),
        };
        (wait > bearable).then(|| wait - bearable)
    }

    /// Whether an engine is idle that none of those who wait or come will take.
    fn has_idle_engine(&self) -> bool {
        self.idle > self.waiting + self.announced
    }
}

/// Seconds until an engine is free that began a batch of `running` so long ago.
pub(super) fn free_in(curve: &Curve, running: usize, elapsed: Duration) -> f64 {
    let takes = curve.seconds(running).unwrap_or_default();
    (takes - elapsed.as_secs_f64()).max(0.0)
}

/// Time until a newcomer's answer is ready, behind `waiting` others: batches of `size`, each by the
/// engine that is free first. `free_in` has the seconds until each engine is, of which there is at
/// least one.
pub(super) fn predicted_wait(
    curve: &Curve,
    size: usize,
    waiting: usize,
    mut free_in: Vec<f64>,
) -> Duration {
    let size = size.max(1);
    let Some(seconds) = curve.seconds(size) else {
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
    use crate::batch::curve::tests::run;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Behind one engine, which runs so many for so long already.
    fn wait(curve: &Curve, waiting: usize, running: usize, elapsed: Duration) -> Duration {
        let free = match running {
            0 => 0.0,
            running => free_in(curve, running, elapsed),
        };
        predicted_wait(curve, 4.min(waiting + 1), waiting, vec![free])
    }

    /// 10 ms an input.
    fn curve() -> Curve {
        let mut curve = Curve::new(4, &[]);
        curve.learn(4, run(MS(40)));
        curve
    }

    #[test]
    fn nothing_measured_predicts_nothing() {
        assert_eq!(wait(&Curve::new(4, &[]), 10, 3, MS(0)), Duration::ZERO);
    }

    #[test]
    fn an_idle_engine_takes_one_input_s_time() {
        assert_eq!(wait(&curve(), 0, 0, MS(0)), MS(10));
    }

    #[test]
    fn what_waits_goes_in_whole_batches_after_what_runs() {
        // Five others and the newcomer are two batches of four.
        assert_eq!(wait(&curve(), 5, 4, MS(15)), MS(25 + 80));
    }

    #[test]
    fn each_batch_goes_to_the_engine_that_is_free_first() {
        let wait =
            |waiting, free_in: [f64; 2]| predicted_wait(&curve(), 1, waiting, free_in.to_vec());
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
        for (waiting, running, announced) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let busy = Load {
                waiting,
                running,
                announced,
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
        for (waiting, announced) in [(1, 0), (0, 1)] {
            let taken = Load {
                waiting,
                announced,
                ..load(MS(3000))
            };
            assert_eq!(taken.excess(MS(0), MS(2000)), Some(MS(1400)));
            let two = Load { idle: 2, ..taken };
            assert_eq!(two.excess(MS(0), MS(2000)), None);
        }
    }

    #[test]
    fn a_batch_that_overruns_never_counts_negative() {
        assert_eq!(wait(&curve(), 0, 1, MS(500)), MS(10));
    }
}
