//! The thread that makes events of records and writes them in batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use super::{Record, endpoint::Endpoint, event::Event, file::RotatingFile};
use crate::metrics::{LogOutcome, Metrics};

/// Events that are written together at the most.
const BATCH_EVENTS: usize = 256;

/// How long the first event of a batch waits for others.
const LINGER: Duration = Duration::from_millis(500);

/// What the thread is sent.
pub(super) enum Message {
    Record(Box<Record>),
    /// Write what is there, answer, and end.
    Finish(SyncSender<()>),
}

/// Where events go.
#[derive(Debug)]
pub(super) enum Sink {
    File(RotatingFile),
    Endpoint(Endpoint),
}

#[derive(Debug)]
pub(super) struct Writer {
    sink: Sink,
    metrics: Arc<Metrics>,
    /// Of images in records that wait or are being written.
    image_bytes: Arc<AtomicUsize>,
}

/// Events that are written together.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<Event>,
    /// Of their images, which count as waiting until they are written.
    image_bytes: usize,
}

impl Writer {
    pub(super) fn new(sink: Sink, metrics: Arc<Metrics>, image_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            sink,
            metrics,
            image_bytes,
        }
    }

    /// Until it is told to finish, or nobody is left who could send anything.
    pub(super) fn run(self, received: &Receiver<Message>) {
        let mut batch = Batch::default();
        loop {
            let Ok(first) = received.recv() else { return };
            let mut finished = self.take(first, &mut batch);
            let end = Instant::now() + LINGER;
            while finished.is_none() && batch.events.len() < BATCH_EVENTS {
                let left = end.saturating_duration_since(Instant::now());
                match received.recv_timeout(left) {
                    Ok(message) => finished = self.take(message, &mut batch),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.write(&batch.events);
            self.image_bytes
                .fetch_sub(batch.image_bytes, Ordering::Relaxed);
            batch = Batch::default();
            if let Some(done) = finished {
                // Nobody waits any more if it took too long.
                let _ = done.try_send(());
                return;
            }
        }
    }

    /// Puts an event into the batch; answers whom to tell that everything was written.
    fn take(&self, message: Message, batch: &mut Batch) -> Option<SyncSender<()>> {
        let record = match message {
            Message::Finish(done) => return Some(done),
            Message::Record(record) => record,
        };
        batch.image_bytes += record.image_bytes();
        match record.into_event() {
            Ok(event) => batch.events.push(event),
            Err(error) => {
                tracing::warn!(%error, "an event of the request log has no id");
                self.metrics.request_log(LogOutcome::Failed, 1);
            }
        }
        None
    }

    fn write(&self, batch: &[Event]) {
        if batch.is_empty() {
            return;
        }
        let written = match &self.sink {
            Sink::Endpoint(endpoint) => endpoint.send(batch),
            Sink::File(file) => match lines(batch).map(|lines| file.append(&lines)) {
                Ok(Ok(())) => batch.len(),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the request log cannot be written");
                    0
                }
                Err(error) => {
                    tracing::warn!(%error, "an event of the request log is no JSON");
                    0
                }
            },
        };
        self.metrics.request_log(LogOutcome::Written, written);
        self.metrics
            .request_log(LogOutcome::Failed, batch.len() - written);
    }
}

fn lines(batch: &[Event]) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for event in batch {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    Ok(lines)
}
