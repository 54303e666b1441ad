//! The request log: events about a sampled share of the images that were classified, for audits
//! and for detectors of drift elsewhere. To an HTTP endpoint as CloudEvents, or to a file.
//!
//! ```text
//!  classify ──► record ──► queue, bounded ──► thread `request-log` ──► file, which rotates
//!               (sampled)   full: dropped,     makes events, gathers    endpoint: CloudEvents
//!                           counted            batches
//! ```
//!
//! No request waits for it: what the thread cannot take is dropped and counted.

mod endpoint;
mod event;
mod file;
mod writer;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use patchlight_splitmix::SplitMix64;

pub use self::event::{ImageRecord, MapRecord, Record};
use self::{
    endpoint::Endpoint,
    file::RotatingFile,
    writer::{Message, Sink, Writer},
};
use crate::metrics::{LogOutcome, Metrics};

/// Events that wait for the thread.
const QUEUE_EVENTS: usize = 4096;

/// Bytes of images in events that wait for the thread.
const QUEUE_IMAGE_BYTES: usize = 64 << 20;

/// How events are sent to an endpoint (CloudEvents 1.0.2, HTTP protocol binding, section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventMode {
    /// One request an event, its attributes as `ce-` headers.
    Binary,
    /// A JSON array of events.
    Batch,
}

/// Where events go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// As JSON lines, one event each.
    File {
        /// The file that is written; `.1` and so on are older ones.
        path: PathBuf,
        /// The size at which a new one is begun.
        max_bytes: u64,
        /// How many older ones are kept.
        kept: usize,
    },
    /// As CloudEvents.
    Endpoint {
        /// An absolute `http` or `https` URL.
        url: String,
        /// How.
        mode: EventMode,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => path.display().fmt(f),
            Self::Endpoint { url, .. } => f.write_str(url),
        }
    }
}

/// What the request log does.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestLogSettings {
    /// Where events go.
    pub target: Target,
    /// The share of images that have one, from 0 to 1.
    pub sample: f64,
    /// Whether they have the image itself.
    pub images: bool,
}

/// The request log, or its absence. A handle; clones share the queue.
#[derive(Clone, Debug, Default)]
pub struct RequestLog(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    queue: SyncSender<Message>,
    image_bytes: Arc<AtomicUsize>,
    sampler: Sampler,
    images: bool,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RequestLog {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the file cannot be written, or the system has no thread or no random numbers.
    pub fn start(settings: &RequestLogSettings, metrics: Arc<Metrics>) -> io::Result<Self> {
        let sink = match &settings.target {
            Target::File {
                path,
                max_bytes,
                kept,
            } => Sink::File(RotatingFile::open(path.clone(), *max_bytes, *kept)?),
            Target::Endpoint { url, mode } => Sink::Endpoint(Endpoint::new(url, *mode)),
        };
        let sampler = Sampler::new(settings.sample)?;
        let (queue, received) = mpsc::sync_channel(QUEUE_EVENTS);
        let image_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(sink, Arc::clone(&metrics), Arc::clone(&image_bytes));
        let thread = thread::Builder::new()
            .name("request-log".to_owned())
            .spawn(move || writer.run(&received))?;
        Ok(Self(Some(Arc::new(Shared {
            queue,
            image_bytes,
            sampler,
            images: settings.images,
            metrics,
            thread: Mutex::new(Some(thread)),
        }))))
    }

    /// Takes the event of an image if it is of the sample. `record` gets whether events have the
    /// image itself.
    pub fn record(&self, record: impl FnOnce(bool) -> Record) {
        let Some(shared) = &self.0 else { return };
        if !shared.sampler.takes() {
            return;
        }
        let record = record(shared.images);
        let bytes = record.image_bytes();
        let before = shared.image_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single image fits, however large.
        let fits = before == 0 || before.saturating_add(bytes) <= QUEUE_IMAGE_BYTES;
        let is_queued = fits
            && match shared.queue.try_send(Message::Record(Box::new(record))) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !is_queued {
            shared.image_bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.metrics.request_log(LogOutcome::Dropped, 1);
        }
    }

    /// Has everything written that waits, for so long at most; blocks. What is recorded afterwards
    /// is dropped.
    pub fn finish(&self, limit: Duration) {
        let Some(shared) = &self.0 else { return };
        let thread = shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return };
        let (done, finished) = mpsc::sync_channel(1);
        let sent = shared.queue.try_send(Message::Finish(done));
        if sent.is_err() || finished.recv_timeout(limit).is_err() {
            tracing::warn!("the last events of the request log were not written");
            return;
        }
        // It has nothing left to do.
        let _ = thread.join();
    }
}

/// Decides by a random number each, without a lock.
#[derive(Debug)]
struct Sampler {
    share: f64,
    state: AtomicU64,
}

impl Sampler {
    fn new(share: f64) -> io::Result<Self> {
        let seed = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self {
            share,
            state: AtomicU64::new(seed),
        })
    }

    fn takes(&self) -> bool {
        let seed = self.state.fetch_add(1, Ordering::Relaxed);
        // 53 bits are what an f64 holds.
        let unit = (SplitMix64::new(seed).next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < self.share
    }
}

#[cfg(test)]
mod tests;
