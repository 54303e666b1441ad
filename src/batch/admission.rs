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
    /// Inputs in the batch that runs now.
    pub running: usize,
    /// Inputs that were let in and are still being received or decoded.
    pub announced: usize,
    /// Time until a newcomer's answer would be ready; zero before anything was measured.
    pub predicted_wait: Duration,
}

impl Load {
    /// How much of a newcomer's time may be planned for when others are before it. Speeds drift, and
    /// decoding what comes meanwhile takes processor time; whoever is let in is to be answered.
    const PLANNED: f64 = 0.8;

    /// The longest predicted wait with which a newcomer who has `left` is let in.
    pub fn bearable(&self, left: Duration) -> Duration {
        match self.waiting + self.running + self.announced {
            // Nobody else can spoil it, and refusing would help nobody.
            0 => left,
            _ => left.mul_f64(Self::PLANNED),
        }
    }
}

/// Time until a newcomer's answer is ready, behind `waiting` others and a batch of `running` that
/// started `elapsed` ago: what is left of that batch, then batches of `size`.
pub(super) fn predicted_wait(
    curve: &Curve,
    size: usize,
    waiting: usize,
    running: usize,
    elapsed: Duration,
) -> Duration {
    let crowd = waiting + 1;
    let size = size.max(1);
    let Some(seconds) = curve.seconds(size) else {
        return Duration::ZERO;
    };
    let current = match running {
        0 => 0.0,
        running => curve.seconds(running).unwrap_or_default() - elapsed.as_secs_f64(),
    };
    Duration::from_secs_f64(current.max(0.0) + seconds * crowd.div_ceil(size) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn wait(curve: &Curve, waiting: usize, running: usize, elapsed: Duration) -> Duration {
        predicted_wait(curve, 4.min(waiting + 1), waiting, running, elapsed)
    }

    /// 10 ms an input.
    fn curve() -> Curve {
        let mut curve = Curve::new(4, &[]);
        curve.learn(4, MS(40));
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
    fn only_an_idle_engine_plans_for_all_the_time_there_is() {
        let idle = Load::default();
        assert_eq!(idle.bearable(MS(100)), MS(100));
        for (waiting, running, announced) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let busy = Load {
                waiting,
                running,
                announced,
                ..idle
            };
            assert_eq!(busy.bearable(MS(100)), MS(80));
        }
    }

    #[test]
    fn a_batch_that_overruns_never_counts_negative() {
        assert_eq!(wait(&curve(), 0, 1, MS(500)), MS(10));
    }
}
