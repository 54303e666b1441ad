//! What the flags mean: validated, typed, with every fault reported at once.

mod demo;
mod faults;
mod models;
mod store;

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use self::faults::Faults;
pub use self::{faults::ConfigError, models::ModelSource};
use crate::{
    args::{ClassifyArgs, ServeArgs},
    batch::{Policy, policy::Batching},
    decode::JpegScaling,
    engine::{Device, threads},
    http::{HttpLimits, KeyRing},
    store::StoreOptions,
    telemetry::LogFormat,
};

/// The settings of `patchlight serve`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The model that answers where none is named.
    pub model: ModelSource,
    /// The other models.
    pub more_models: Vec<ModelSource>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// What computes.
    pub device: Device,
    /// Threads that compute; also how many pictures are decoded at once.
    pub threads: usize,
    /// How batches are made.
    pub policy: Policy,
    /// Bounds of one request.
    pub http: HttpLimits,
    /// How to stop.
    pub drain: Drain,
    /// The most pixels of a picture.
    pub max_pixels: u64,
    /// Bytes for pictures being decoded, all together.
    pub decode_memory: u64,
    /// Whether large JPEGs are decoded at a fraction of their size.
    pub jpeg_scaling: JpegScaling,
    /// Where maps are kept, and within which bounds.
    pub store: StoreOptions,
    /// Whether overlays get their picture.
    pub keep_pictures: bool,
    /// The API keys in force, if any are asked for.
    pub api_keys: Option<KeyRing>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
}

/// How to stop after SIGTERM.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Keep serving this long, so that load balancers notice first.
    pub delay: Duration,
    /// Then finish what was accepted within this time.
    pub timeout: Duration,
}

/// Batches that fit into the queue. Enough to keep the engine busy through a burst; what waits
/// longer than a request's time is refused on arrival anyway.
const QUEUE_IN_BATCHES: usize = 32;

/// How long a body may take to arrive.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

impl Config {
    /// Reads all flags.
    ///
    /// # Errors
    /// Every fault, not just the first.
    pub fn from_args(args: &ServeArgs) -> Result<Self, ConfigError> {
        let mut faults = Faults::default();
        let config = Self::read(args, &mut faults);
        faults.into_result(config)
    }

    /// The same for `patchlight classify`, which takes few flags and otherwise does as the server
    /// does by default.
    ///
    /// # Errors
    /// Every fault, not just the first.
    pub fn for_classify(args: &ClassifyArgs) -> Result<Self, ConfigError> {
        let serve = ServeArgs {
            model: args.model.clone().into_iter().collect(),
            device: args.device.clone(),
            ..ServeArgs::default()
        };
        Self::from_args(&serve)
    }

    fn read(args: &ServeArgs, faults: &mut Faults) -> Option<Self> {
        let models = models::read(&args.model, faults);
        let listen = faults.parse(
            "--listen",
            &args.listen,
            "an address and port such as 127.0.0.1:8080",
        );
        let device = faults.take("--device", args.device.parse::<Device>());
        let threads = match &args.threads {
            Some(text) => faults.count("--threads", text),
            None => NonZeroUsize::new(threads::available()),
        };
        let max_batch = faults.count("--max-batch", &args.max_batch);
        let batching = faults.one_of(
            "--batching",
            &args.batching,
            &[("auto", Batching::Auto), ("greedy", Batching::Greedy)],
        );
        let request_timeout = faults.duration("--request-timeout", &args.request_timeout);
        let drain_delay = faults.duration("--drain-delay", &args.drain_delay);
        let drain_timeout = faults.duration("--drain-timeout", &args.drain_timeout);
        let max_body = faults.size("--max-body", &args.max_body);
        let max_pixels = faults.count("--max-pixels", &args.max_pixels);
        let decode_memory = faults.size("--decode-memory", &args.decode_memory);
        let jpeg_scaling = faults.one_of(
            "--jpeg-scaling",
            &args.jpeg_scaling,
            &[("auto", JpegScaling::Auto), ("off", JpegScaling::Off)],
        );
        let switch = [("true", true), ("false", false)];
        let keep_pictures = faults.one_of("--keep-pictures", &args.keep_pictures, &switch);
        let store = store::read(args, keep_pictures, faults);
        let api_keys = args.api_key_file.as_deref().map(KeyRing::load).transpose();
        let api_keys = faults.take("--api-key-file", api_keys);
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log_format = faults.one_of("--log-format", &args.log_format, &formats);

        if request_timeout.is_some_and(|timeout| timeout.is_zero()) {
            faults.add("--request-timeout", "it must be longer than 0");
        }

        let max_batch = max_batch?;
        let (model, more_models) = models?;
        Some(Self {
            model,
            more_models,
            listen: listen?,
            device: device?,
            threads: threads?.get(),
            policy: Policy {
                batching: batching?,
                max_batch,
                max_waiting: max_batch.saturating_mul(NonZeroUsize::new(QUEUE_IN_BATCHES)?),
            },
            http: HttpLimits {
                max_body: max_body?,
                upload_timeout: UPLOAD_TIMEOUT,
                request_timeout: request_timeout?,
            },
            drain: Drain {
                delay: drain_delay?,
                timeout: drain_timeout?,
            },
            max_pixels: max_pixels?.get() as u64,
            decode_memory: decode_memory?,
            jpeg_scaling: jpeg_scaling?,
            store: store?,
            keep_pictures: keep_pictures?,
            api_keys: api_keys?,
            log_format: log_format?,
            log: args.log.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
