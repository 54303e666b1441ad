//! The threads that own engines, one each.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use patchlight_engine::{Engine, EngineError, Input, Output};
use tracing::Span;

use super::{
    Inference,
    fair_queue::QueueEntry,
    latency_model,
    queue::Queue,
    recovery::{FatalSignal, Recovery, RecoveryStep},
};
use crate::{Error, metrics::Metrics};

/// The running workers of one queue; [`join`](Self::join) them after closing it.
#[derive(Debug)]
pub struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    /// Waits for the last batch. Blocks the calling thread.
    pub fn join(self) {
        for worker in self.0 {
            if worker.join().is_err() {
                tracing::error!("a batch worker panicked");
            }
        }
    }
}

/// A thread for each engine. Those that were started before an error end when the queue is closed.
pub(super) fn spawn<E: Engine>(
    engines: Vec<E>,
    queue: &Arc<Queue>,
    metrics: &Arc<Metrics>,
    fatal: &FatalSignal,
) -> io::Result<Workers> {
    let runs = Arc::<AtomicU64>::default();
    let start = |(number, engine)| {
        let mut worker = Worker {
            engine,
            number,
            queue: Arc::clone(queue),
            metrics: Arc::clone(metrics),
            recovery: Recovery::default(),
            fatal: fatal.clone(),
            runs: Arc::clone(&runs),
        };
        thread::Builder::new()
            .name("batch".to_owned())
            .spawn(move || worker.work())
    };
    let started = engines.into_iter().enumerate().map(start);
    Ok(Workers(started.collect::<io::Result<_>>()?))
}

struct Worker<E> {
    engine: E,
    /// Among those of its queue.
    number: usize,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    recovery: Recovery,
    fatal: FatalSignal,
    /// How many batches were run, by all workers of the queue.
    runs: Arc<AtomicU64>,
}

impl<E: Engine> Worker<E> {
    fn work(&mut self) {
        while let Some(batch) = self.queue.next_batch(self.number) {
            self.serve(batch);
        }
    }

    /// Runs a batch, and its inputs one by one if it fails as a whole: one of them may have spoiled
    /// it for the others.
    fn serve(&mut self, batch: Vec<QueueEntry>) {
        for entry in self.attempt(batch) {
            if entry.reply.is_closed() {
                continue;
            }
            self.queue.begin(self.number, 1);
            // Of a batch of one nothing is left.
            drop(self.attempt(vec![entry]));
        }
    }

    /// Runs a batch once and answers its requests; those are left that have to be run alone because
    /// the batch failed, none of a batch of one.
    fn attempt(&mut self, mut batch: Vec<QueueEntry>) -> Vec<QueueEntry> {
        // Each request's trace has the run that it shared.
        let size = batch.len();
        let spans: Vec<Span> = batch
            .iter_mut()
            .map(|entry| {
                entry.queue_span = Span::none();
                tracing::debug_span!(parent: &entry.span, "inference", size)
            })
            .collect();
        let (started, computed) = (Instant::now(), process_time());
        let inputs: Vec<Input<'_>> = batch.iter().map(|entry| entry.item.input()).collect();
        let outcome = self.run(&inputs);
        let number = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let ended = Instant::now();
        let ran = ended.saturating_duration_since(started);
        drop(spans);
        let learned = outcome.is_ok().then(|| latency_model::BatchRun {
            took: ran,
            computed: process_time()
                .zip(computed)
                .map(|(now, before)| now.saturating_sub(before)),
            ended,
        });
        self.queue.finished(self.number, learned);
        self.metrics.batch(size, ran);

        let run = BatchRun {
            number,
            started,
            size,
        };
        match outcome {
            Ok(outputs) => {
                self.recovery.succeeded();
                for (entry, output) in batch.into_iter().zip(outputs) {
                    answer(entry, require_finite(output), run);
                }
            }
            Err(error) if run.size == 1 => {
                for entry in batch {
                    let _entered = entry.span.clone().entered();
                    tracing::error!(%error, "inference failed");
                    self.metrics.inference_failed();
                    answer(entry, Err(Error::Inference), run);
                }
                self.recover();
            }
            Err(error) => {
                tracing::warn!(%error, size = run.size, "a batch failed; its inputs are tried one by one");
                return batch;
            }
        }
        Vec::new()
    }

    /// After a failure: goes on, or rebuilds the engine, or ends.
    fn recover(&mut self) {
        match self.recovery.failed() {
            RecoveryStep::Continue => {}
            RecoveryStep::Rebuild => {
                tracing::error!("the engine keeps failing and is rebuilt");
                let engine = &mut self.engine;
                let rebuilt = catch_unwind(AssertUnwindSafe(|| engine.rebuild()))
                    .unwrap_or_else(|_| Err(EngineError::Graph("the engine panicked".to_owned())));
                if let Err(error) = rebuilt {
                    tracing::error!(%error, "the engine cannot be rebuilt");
                    self.give_up();
                }
            }
            RecoveryStep::GiveUp => self.give_up(),
        }
    }

    fn give_up(&self) {
        tracing::error!("the engine is broken for good");
        self.end_service();
    }

    /// A panic in the engine is a failed run, not the end of the service.
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
        let engine = &mut self.engine;
        catch_unwind(AssertUnwindSafe(|| engine.run(inputs)))
            .unwrap_or_else(|_| Err(EngineError::Graph("the engine panicked".to_owned())))
            .and_then(|outputs| match outputs.len() == inputs.len() {
                true => Ok(outputs),
                false => Err(EngineError::Graph(format!(
                    "{} inputs gave {} outputs",
                    inputs.len(),
                    outputs.len()
                ))),
            })
    }
}

impl<E> Worker<E> {
    /// Rejects queued and new requests, and raises the fatal signal.
    fn end_service(&self) {
        for entry in self.queue.close_and_take() {
            // A client that has left needs no refusal.
            let _ = entry.reply.send(Err(Error::NotReady));
        }
        self.fatal.raise();
    }
}

impl<E> Drop for Worker<E> {
    /// However the thread ends, no request waits for it for ever; and if a panic ends it, the
    /// process does not go on without it.
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a batch worker panicked outside of its engine");
            self.end_service();
        }
        drop(self.queue.close_and_take());
    }
}

/// The processor time that the process has taken, where the system tells. An engine may compute on
/// other threads than the one that calls it.
#[cfg(unix)]
fn process_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().ok()
}

#[cfg(not(unix))]
fn process_time() -> Option<Duration> {
    None
}

fn require_finite(output: Output) -> Result<Output, Error> {
    if output.values().all(f32::is_finite) {
        Ok(output)
    } else {
        Err(Error::NotFinite)
    }
}

/// What answers say of their batch.
#[derive(Clone, Copy)]
struct BatchRun {
    number: u64,
    started: Instant,
    size: usize,
}

fn answer(entry: QueueEntry, output: Result<Output, Error>, run: BatchRun) {
    let inference = output.map(|output| Inference {
        output,
        queued: run.started.saturating_duration_since(entry.queued_at),
        ran: run.started.elapsed(),
        batch_size: run.size,
        batch: run.number,
    });
    // A client that has left meanwhile wants no answer.
    let _ = entry.reply.send(inference);
}
