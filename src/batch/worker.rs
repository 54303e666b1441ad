//! The threads that own engines, one each.

use std::{
    collections::VecDeque,
    io, mem,
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
    queue::{Queue, RunEnd},
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

    /// Runs a batch. One that the device has no memory for is halved. One that fails otherwise runs
    /// again one by one: an input may have spoiled it for the others. Once the engine is broken for
    /// good, what is left is for the other engines.
    fn serve(&mut self, batch: Vec<QueueEntry>) {
        let mut parts = VecDeque::from([batch]);
        let mut first = true;
        while let Some(mut part) = parts.pop_front() {
            if !mem::take(&mut first) {
                part.retain(|entry| !entry.reply.is_closed());
                if part.is_empty() {
                    continue;
                }
                if !self.queue.is_open(self.number) {
                    self.leave_to_others(part);
                    continue;
                }
                self.queue.begin(self.number, part.len());
            }
            for part in self.attempt(part).into_iter().rev() {
                parts.push_front(part);
            }
        }
    }

    /// Runs a batch once and answers its requests. If that fails, these are the smaller batches in
    /// which it has to be tried again; none for a batch of one.
    fn attempt(&mut self, mut batch: Vec<QueueEntry>) -> Vec<Vec<QueueEntry>> {
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
        let end = match &outcome {
            Ok(_) => RunEnd::Succeeded(latency_model::BatchRun {
                took: ran,
                computed: process_time()
                    .zip(computed)
                    .map(|(now, before)| now.saturating_sub(before)),
                ended,
            }),
            Err(EngineError::OutOfMemory { .. }) => RunEnd::OutOfMemory,
            Err(_) => RunEnd::Failed,
        };
        let lowered = self.queue.finished(self.number, end);
        let run = BatchRun {
            number,
            started,
            size,
        };
        match outcome {
            Ok(outputs) => {
                self.metrics.batch(size, ran);
                self.recovery.succeeded();
                for (entry, output) in batch.into_iter().zip(outputs) {
                    answer(entry, require_finite(output), run);
                }
                Vec::new()
            }
            Err(error @ EngineError::OutOfMemory { .. }) if size > 1 => {
                self.metrics.batch_out_of_memory();
                match lowered {
                    Some(limit) => tracing::warn!(
                        device = %self.engine.device(),
                        %error,
                        limit,
                        "a batch did not fit into the device's memory; it is halved, and so are \
                         those that follow for a while"
                    ),
                    None => tracing::debug!(%error, "a batch still does not fit"),
                }
                let second = batch.split_off(size.div_ceil(2));
                vec![batch, second]
            }
            Err(error) if size > 1 => {
                self.metrics.batch(size, ran);
                tracing::warn!(%error, size, "a batch failed; its inputs are tried one by one");
                batch.into_iter().map(|entry| vec![entry]).collect()
            }
            Err(error) => {
                self.metrics.batch(size, ran);
                for entry in batch {
                    self.failed(entry, &error, run);
                }
                self.recover();
                Vec::new()
            }
        }
    }

    /// An input that failed alone: another device may have an answer.
    fn failed(&self, entry: QueueEntry, error: &EngineError, run: BatchRun) {
        let span = entry.span.clone();
        let _entered = span.enter();
        let device = self.engine.device();
        let Some(entry) = self.queue.run_elsewhere(self.number, entry) else {
            tracing::warn!(%device, %error, "inference failed; another device tries the image");
            return;
        };
        tracing::error!(%device, %error, "inference failed");
        self.metrics.inference_failed();
        let error = match error {
            EngineError::OutOfMemory { .. } => Error::OutOfMemory,
            _ => Error::Inference,
        };
        answer(entry, Err(error), run);
    }

    /// What this engine was given and cannot run any more.
    fn leave_to_others(&self, part: Vec<QueueEntry>) {
        for entry in part {
            if let Some(entry) = self.queue.run_elsewhere(self.number, entry) {
                // The others have failed on it, or are closing as well.
                let _ = entry.reply.send(Err(Error::Inference));
            }
        }
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

    /// The other devices go on; where there is none, the process ends.
    fn give_up(&self) {
        let device = self.engine.device();
        if self.queue.close_lane(self.number) {
            tracing::error!(
                %device,
                "the engine is broken for good: this device is not used any more, and the others \
                 serve on; restart the process to try it again"
            );
            return;
        }
        tracing::error!(%device, "the engine is broken for good");
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
        // A lane that was closed leaves the queue to the others.
        if self.queue.is_open(self.number) {
            drop(self.queue.close_and_take());
        }
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
