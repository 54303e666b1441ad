//! The two loops.

use std::{
    future::Future,
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    Result,
    arrivals::{Arrivals, schedule},
    tally::{Outcome, Sample, Tally},
};

/// How long a client of the closed loop rests when its connection was not accepted: without a
/// pause it would only measure how fast this machine can fail.
const PAUSE: Duration = Duration::from_millis(100);

/// How much is sent, and in which rhythm.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) load: Load,
    pub(crate) duration: Duration,
    pub(crate) max_requests: u64,
}

#[derive(Clone, Copy)]
pub(crate) enum Load {
    Closed {
        clients: u32,
    },
    Open {
        /// Requests a second.
        rate: f64,
        arrivals: Arrivals,
        seed: u64,
        max_in_flight: u32,
        /// How long after its end the run may go on sending what is overdue.
        give_up_after: Duration,
    },
}

/// Carries out the plan: `send(n)` makes the n-th request. Returns when every request has its
/// outcome.
///
/// # Errors
/// When the histograms cannot be made.
pub(crate) async fn drive<F, Fut>(plan: &Plan, send: F) -> Result<Tally>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    // Few samples wait here at a time; unbounded so that recording never holds a request up.
    let (samples, received) = mpsc::unbounded_channel();
    let run = Run {
        start: Instant::now(),
        samples,
    };
    let sending = async {
        match plan.load {
            Load::Closed { clients } => closed_loop(run, clients, plan, &send),
            Load::Open {
                rate,
                arrivals,
                seed,
                max_in_flight,
                give_up_after,
            } => {
                let due = schedule(arrivals, rate, seed).take_while(|at| *at < plan.duration);
                let last_start = plan.duration + give_up_after;
                let numbered = (0..plan.max_requests).zip(due);
                open_loop(run, numbered, max_in_flight, last_start, &send).await;
            }
        }
    };
    let ((), tally) = tokio::join!(sending, collect(received));
    tally
}

/// What every request needs for its sample. The run is over when the last clone is dropped.
#[derive(Clone)]
struct Run {
    start: Instant,
    samples: mpsc::UnboundedSender<Sample>,
}

impl Run {
    async fn request(&self, due: Duration, answer: impl Future<Output = Outcome>) -> Outcome {
        let sent = self.start.elapsed();
        let outcome = answer.await;
        self.report(Sample {
            outcome,
            due,
            sent,
            done: self.start.elapsed(),
        });
        outcome
    }

    fn report(&self, sample: Sample) {
        // The collector outlives every sender; without it there would be no receiver.
        let _ = self.samples.send(sample);
    }
}

fn closed_loop<F, Fut>(run: Run, clients: u32, plan: &Plan, send: &F)
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let (duration, max_requests) = (plan.duration, plan.max_requests);
    for _ in 0..clients {
        let (run, next, send) = (run.clone(), Arc::clone(&next), send.clone());
        tokio::spawn(async move {
            while run.start.elapsed() < duration {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= max_requests {
                    return;
                }
                let outcome = run.request(run.start.elapsed(), send(number)).await;
                if outcome == Outcome::ConnectionFailed {
                    time::sleep(PAUSE).await;
                }
            }
        });
    }
}

async fn open_loop<F, Fut>(
    run: Run,
    numbered: impl Iterator<Item = (u64, Duration)>,
    max_in_flight: u32,
    last_start: Duration,
    send: &F,
) where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(max_in_flight as usize));
    for (number, due) in numbered {
        time::sleep_until(run.start + due).await;
        let place =
            time::timeout_at(run.start + last_start, Arc::clone(&places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let now = run.start.elapsed();
            run.report(Sample {
                outcome: Outcome::NotSent,
                due,
                sent: now,
                done: now,
            });
            continue;
        };
        let (run, answer) = (run.clone(), send(number));
        tokio::spawn(async move {
            run.request(due, answer).await;
            drop(place);
        });
    }
}

/// Takes samples until the run is over, with a line of progress each second on a terminal.
async fn collect(mut samples: mpsc::UnboundedReceiver<Sample>) -> Result<Tally> {
    let mut tally = Tally::new()?;
    let start = Instant::now();
    let on_terminal = io::stderr().is_terminal();
    let mut second = time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            sample = samples.recv() => match sample {
                Some(sample) => tally.record(&sample),
                None => break,
            },
            _ = second.tick(), if on_terminal => show_progress(&tally, start.elapsed()),
        }
    }
    if on_terminal {
        eprintln!();
    }
    Ok(tally)
}

fn show_progress(tally: &Tally, elapsed: Duration) {
    let succeeded = tally.succeeded.len();
    let others = tally.outcomes.values().sum::<u64>() - succeeded;
    let rate = succeeded as f64 / elapsed.as_secs_f64().max(1.0);
    eprint!(
        "\r{:>5} s  {succeeded:>8} answered  {rate:>8.1}/s  {others:>6} otherwise ",
        elapsed.as_secs()
    );
}

#[cfg(test)]
mod tests;
