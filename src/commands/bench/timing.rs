//! Runs a batch over and over in all sessions at the same time.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use patchlight_engine::{Engine, EngineError, Input};
use serde::Serialize;

use super::memory;

/// Runs before the clock starts.
const WARM_UP: usize = 3;

/// Runs of a session at least, however long they take.
const LEAST_RUNS: usize = 5;

/// One batch size.
#[derive(Serialize)]
pub(super) struct BatchTime {
    pub(super) batch: usize,
    /// Median and 95th percentile of a run, inputs and outputs in the host's memory.
    pub(super) median_ms: f64,
    pub(super) p95_ms: f64,
    /// Of all sessions together.
    pub(super) images_per_s: f64,
    pub(super) runs: usize,
    /// The most memory that the process had so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_bytes: Option<u64>,
}

/// Every session runs the batch until the time is over.
pub(super) fn measure<E: Engine>(
    engines: &mut [E],
    inputs: &[Input<'_>],
    duration: Duration,
) -> Result<BatchTime, EngineError> {
    let ready = Barrier::new(engines.len());
    let sessions: Vec<_> = thread::scope(|scope| {
        let start = |engine| scope.spawn(|| session(engine, inputs, duration, &ready));
        let running: Vec<_> = engines.iter_mut().map(start).collect();
        let ended = running.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ended.collect()
    });
    let (mut times, mut images_per_s) = (Vec::new(), 0.0);
    for session in sessions {
        let session = session?;
        let seconds = session.iter().sum::<f64>() / 1e3;
        images_per_s += (session.len() * inputs.len()) as f64 / seconds;
        times.extend(session);
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(BatchTime {
        batch: inputs.len(),
        median_ms: at(0.5),
        p95_ms: at(0.95),
        images_per_s,
        runs: times.len(),
        peak_bytes: memory::peak_bytes(),
    })
}

/// The time of every run, in milliseconds. All sessions begin together; one that fails while it
/// warms up still lets the others begin.
fn session<E: Engine>(
    engine: &mut E,
    inputs: &[Input<'_>],
    duration: Duration,
    ready: &Barrier,
) -> Result<Vec<f64>, EngineError> {
    let warm_up = (0..WARM_UP).try_for_each(|_| engine.run(inputs).map(drop));
    ready.wait();
    warm_up?;
    let end = Instant::now() + duration;
    let mut times = Vec::new();
    while Instant::now() < end || times.len() < LEAST_RUNS {
        let started = Instant::now();
        engine.run(inputs)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use patchlight_engine::Output;

    use super::*;

    struct Fake {
        fails: bool,
    }

    impl Engine for Fake {
        fn device(&self) -> patchlight_engine::Device {
            patchlight_engine::Device::Cpu
        }

        fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
            match self.fails {
                true => Err(EngineError::Graph("it is a fake".to_owned())),
                false => Ok(Vec::with_capacity(inputs.len())),
            }
        }

        fn rebuild(&mut self) -> Result<(), EngineError> {
            Ok(())
        }
    }

    fn time(fails: &[bool]) -> Result<BatchTime, EngineError> {
        let mut engines: Vec<_> = fails.iter().map(|&fails| Fake { fails }).collect();
        let image = [0.0; 12];
        let input = Input::in_full(&image[..]);
        measure(&mut engines, &[input; 3], Duration::ZERO)
    }

    #[test]
    fn every_session_runs_at_least_five_times_however_short_the_time_is() {
        assert_eq!(time(&[false]).unwrap().runs, 5);
        let two = time(&[false, false]).unwrap();
        assert_eq!((two.runs, two.batch), (10, 3));
        assert!(two.images_per_s > 0.0 && two.median_ms <= two.p95_ms);
    }

    #[test]
    fn a_session_that_fails_ends_the_measurement_and_stops_no_other() {
        assert!(time(&[false, true]).is_err());
    }
}
