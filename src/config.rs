//! What the flags mean: validated, typed, with every fault reported at once.

mod demo;
mod faults;
mod models;
mod store;
mod tracing;

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use self::faults::Faults;
pub use self::{faults::ConfigError, models::ModelSource};
use crate::{
    args::{ClassifyArgs, EvaluateArgs, ServeArgs},
    batch::{Policy, policy::Batching},
    decode::JpegScaling,
    engine::{Device, threads},
    http::{CorsOrigins, HttpLimits, KeyRing},
    server::Tls,
    store::{Place, StoreOptions},
    telemetry::{LogFormat, TraceExport},
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
    /// Where models are changed and metrics read, if anywhere but there.
    pub admin_listen: Option<SocketAddr>,
    /// What computes.
    pub device: Device,
    /// Threads that compute; also how many pictures are decoded at once.
    pub threads: usize,
    /// Sessions of each model, among which these threads are divided.
    pub sessions: NonZeroUsize,
    /// How batches are made.
    pub policy: Policy,
    /// Bounds of one request.
    pub http: HttpLimits,
    /// How to stop.
    pub drain: Drain,
    /// The most pixels of a picture.
    pub max_pixels: u64,
    /// The longest side of a picture.
    pub max_side: u32,
    /// Bytes for pictures being decoded, all together.
    pub decode_memory: u64,
    /// Whether large JPEGs are decoded at a fraction of their size.
    pub jpeg_scaling: JpegScaling,
    /// Where maps are kept, and within which bounds.
    pub store: StoreOptions,
    /// Whether overlays get their picture.
    pub keep_pictures: bool,
    /// Bytes for results of identical requests, if they are kept.
    pub result_cache: Option<u64>,
    /// Whether kept maps may be tested by perturbation.
    pub allow_verify: bool,
    /// The API keys in force, if any are asked for.
    pub api_keys: Option<KeyRing>,
    /// The certificate, for HTTPS.
    pub tls: Option<Tls>,
    /// Pages from elsewhere that may ask.
    pub cors: Option<CorsOrigins>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
    /// Where traces go, if anywhere.
    pub traces: Option<TraceExport>,
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

impl Config {
    /// Reads all flags.
    ///
    /// # Errors
    /// Every fault, not just the first.
    pub fn from_args(args: &ServeArgs) -> Result<Self, ConfigError> {
        let mut faults = Faults::new(&args.layers);
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

    /// The same for `patchlight evaluate`.
    ///
    /// # Errors
    /// Every fault, not just the first.
    pub fn for_evaluate(args: &EvaluateArgs) -> Result<Self, ConfigError> {
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
        let admin_listen = match &args.admin_listen {
            Some(text) => faults
                .parse(
                    "--admin-listen",
                    text,
                    "an address and port such as 127.0.0.1:9090",
                )
                .map(Some),
            None => Some(None),
        };
        if args.admin_listen.is_some() && args.api_key_file.is_none() {
            faults.add(
                "--admin-listen",
                "whoever may change models needs a key; name a file of keys with --api-key-file",
            );
        }
        let device = faults.take("--device", args.device.parse::<Device>());
        let threads = match &args.threads {
            Some(text) => faults.count("--threads", text),
            None => NonZeroUsize::new(threads::available()),
        };
        let sessions = faults.count("--sessions", &args.sessions);
        if let (Some(Device::Auto | Device::Cpu), Some(sessions), Some(threads)) =
            (device, sessions, threads)
            && sessions > threads
        {
            faults.add(
                "--sessions",
                "each session needs a thread of its own; see --threads",
            );
        }
        let max_batch = faults.count("--max-batch", &args.max_batch);
        let batching = faults.one_of(
            "--batching",
            &args.batching,
            &[("auto", Batching::Auto), ("greedy", Batching::Greedy)],
        );
        let request_timeout = faults.duration("--request-timeout", &args.request_timeout);
        let upload_timeout = faults.duration("--upload-timeout", &args.upload_timeout);
        let drain_delay = faults.duration("--drain-delay", &args.drain_delay);
        let drain_timeout = faults.duration("--drain-timeout", &args.drain_timeout);
        let max_body = faults.size("--max-body", &args.max_body);
        let max_pixels = faults.count("--max-pixels", &args.max_pixels);
        let max_side = faults.count("--max-side", &args.max_side);
        let decode_memory = faults.size("--decode-memory", &args.decode_memory);
        let jpeg_scaling = faults.one_of(
            "--jpeg-scaling",
            &args.jpeg_scaling,
            &[("auto", JpegScaling::Auto), ("off", JpegScaling::Off)],
        );
        let switch = [("true", true), ("false", false)];
        let keep_pictures = faults.one_of("--keep-pictures", &args.keep_pictures, &switch);
        let result_cache = match args.result_cache.as_str() {
            "off" => Some(None),
            text => faults.size("--result-cache", text).map(Some),
        };
        let store = store::read(args, keep_pictures, faults);
        let signed = store
            .as_ref()
            .is_some_and(|store| matches!(store.place, Place::Signed(_)));
        if args.allow_verify && (signed || keep_pictures == Some(false)) {
            faults.add(
                "--allow-verify",
                "a test needs the picture of the map, which these --keep-pictures and \
                 --attention-store do not keep",
            );
        }
        let api_keys = args.api_key_file.as_deref().map(KeyRing::load).transpose();
        let api_keys = faults.take("--api-key-file", api_keys);
        let tls = match (&args.tls_cert, &args.tls_key) {
            (Some(certificate), Some(key)) => Tls::load(certificate, key).map(Some),
            (None, None) => Ok(None),
            _ => Err("--tls-cert and --tls-key go together".to_owned()),
        };
        let tls = faults.take("--tls-cert", tls);
        let cors = args.cors_origin.as_deref().map(str::parse).transpose();
        let cors = faults.take::<Option<CorsOrigins>>("--cors-origin", cors);
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log_format = faults.one_of("--log-format", &args.log_format, &formats);

        let traces = tracing::read(&args.tracing, faults);

        if request_timeout.is_some_and(|timeout| timeout.is_zero()) {
            faults.add("--request-timeout", "it must be longer than 0");
        }

        let max_batch = max_batch?;
        let (model, more_models) = models?;
        Some(Self {
            model,
            more_models,
            listen: listen?,
            admin_listen: admin_listen?,
            device: device?,
            threads: threads?.get(),
            sessions: sessions?,
            policy: Policy {
                batching: batching?,
                max_batch,
                max_waiting: max_batch.saturating_mul(NonZeroUsize::new(QUEUE_IN_BATCHES)?),
            },
            http: HttpLimits {
                max_body: max_body?,
                upload_timeout: upload_timeout?,
                request_timeout: request_timeout?,
            },
            drain: Drain {
                delay: drain_delay?,
                timeout: drain_timeout?,
            },
            max_pixels: max_pixels?.get() as u64,
            // No format can say more.
            max_side: u32::try_from(max_side?.get()).unwrap_or(u32::MAX),
            decode_memory: decode_memory?,
            jpeg_scaling: jpeg_scaling?,
            store: store?,
            keep_pictures: keep_pictures?,
            result_cache: result_cache?,
            allow_verify: args.allow_verify,
            api_keys: api_keys?,
            tls: tls?,
            cors: cors?,
            log_format: log_format?,
            log: args.log.clone(),
            traces,
        })
    }
}

#[cfg(test)]
mod tests;
