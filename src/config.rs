//! Validated settings, with every error reported at once.

pub(crate) mod cors;
pub(crate) mod demo;
mod errors;
mod fetch_from;
mod hosts;
mod models;
mod request_log;
mod sources;
mod store;
mod tracing;

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use patchlight_engine::{Device, Devices, Kernels, threads};
use patchlight_imaging::decode::JpegScaling;

pub use self::{
    cors::CorsOrigins,
    errors::{ConfigError, ConfigErrors},
    fetch_from::{FetchFrom, NotAllowed},
    hosts::AllowedHosts,
    models::{MAX_NAME_LENGTH, ModelSource, is_model_name},
};
use crate::{
    args::{ClassifyArgs, EvaluateArgs, ServeArgs},
    batch::{Policy, policy::Batching},
    classify::AbstainRule,
    request_log::RequestLogSettings,
    sources::SourceSettings,
    store::{StoreKind, StoreOptions},
    telemetry::{LogFormat, TraceExport},
};

/// The settings of `patchlight serve`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The model that answers where none is named.
    pub model: ModelSource,
    /// The other models.
    pub more_models: Vec<ModelSource>,
    /// How those are imported that are named by an address.
    pub sources: SourceSettings,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where to listen for gRPC alone, if anywhere.
    pub grpc_listen: Option<SocketAddr>,
    /// Where models are changed and metrics read, if anywhere but there.
    pub admin_listen: Option<SocketAddr>,
    /// What computes: one device, or several cards.
    pub devices: Devices,
    /// Which operators compute there.
    pub kernels: Kernels,
    /// Threads that compute; also how many images are decoded at once.
    pub threads: usize,
    /// Batches of each model that run at a time, each in a session of its own among which these
    /// threads are divided, or in one that is shared on a card; `None` leaves it to the device.
    pub sessions: Option<NonZeroUsize>,
    /// How batches are made.
    pub policy: Policy,
    /// Bounds of one request.
    pub limits: RequestLimits,
    /// How to stop.
    pub drain: Drain,
    /// The most pixels of an image.
    pub max_pixels: u64,
    /// The longest side of an image.
    pub max_side: u32,
    /// Bytes for images being decoded, all together.
    pub decode_memory: u64,
    /// Whether large JPEGs are decoded at a fraction of their size.
    pub jpeg_scaling: JpegScaling,
    /// When an answer is marked as one not to act on.
    pub abstain: AbstainRule,
    /// Where maps are kept, and within which bounds.
    pub store: StoreOptions,
    /// Whether overlays get their image.
    pub keep_previews: bool,
    /// Bytes for results of identical requests, if they are kept.
    pub result_cache: Option<u64>,
    /// Whether kept maps may be tested by perturbation.
    pub allow_verify: bool,
    /// How long a connection may rest between requests.
    pub keep_alive: Duration,
    /// Pages from elsewhere that may ask.
    pub cors: Option<CorsOrigins>,
    /// The names that requests may call the server by.
    pub allowed_hosts: AllowedHosts,
    /// Where images come from that requests name by their URL.
    pub fetch_from: FetchFrom,
    /// Where events about answered requests go, if anywhere.
    pub request_log: Option<RequestLogSettings>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
    /// Where traces go, if anywhere.
    pub traces: Option<TraceExport>,
}

/// What a body may measure and how long things may take.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of one request's body.
    pub max_body: u64,
    /// How long a body may take to arrive.
    pub upload_timeout: Duration,
    /// How long a request has, unless it asks for less.
    pub request_timeout: Duration,
}

/// Files that are opened before the server starts, and followed while it runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileNames {
    /// The API keys, if any are configured.
    pub api_keys: Option<PathBuf>,
    /// The certificate chain and its private key, for HTTPS.
    pub tls: Option<(PathBuf, PathBuf)>,
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

/// Between requests a client needs a moment even on a good day.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_secs(1);

impl Config {
    /// Reads all flags.
    ///
    /// # Errors
    /// Every error, not just the first.
    pub fn from_args(args: &ServeArgs) -> Result<Self, ConfigError> {
        Self::with_files(args, |_, _| Some(())).map(|(config, ())| config)
    }

    /// Reads all flags, and has `open` open the files that they name, so that what is wrong with
    /// either is said at once.
    ///
    /// # Errors
    /// Every error, not just the first.
    pub fn with_files<F>(
        args: &ServeArgs,
        open: impl FnOnce(&FileNames, &mut ConfigErrors) -> Option<F>,
    ) -> Result<(Self, F), ConfigError> {
        let mut errors = ConfigErrors::new(&args.sources);
        let config = Self::read(args, &mut errors);
        let files = open(&FileNames::read(args, &mut errors), &mut errors);
        errors.into_result(config.zip(files))
    }

    /// The same for `patchlight classify`, which takes few flags and otherwise does as the server
    /// does by default.
    ///
    /// # Errors
    /// Every error, not just the first.
    pub fn for_classify(args: &ClassifyArgs) -> Result<Self, ConfigError> {
        let serve = ServeArgs {
            model: args.model.clone().into_iter().collect(),
            device: vec![args.device.clone()],
            ..ServeArgs::default()
        };
        let mut config = Self::from_args(&serve)?;
        // It is about requests.
        config.request_log = None;
        if let Some(directory) = &args.cache_dir {
            config.sources.cache_dir = Some(directory.clone());
        }
        Ok(config)
    }

    /// The same for `patchlight evaluate`.
    ///
    /// # Errors
    /// Every error, not just the first.
    pub fn for_evaluate(args: &EvaluateArgs) -> Result<Self, ConfigError> {
        let serve = ServeArgs {
            model: args.model.clone().into_iter().collect(),
            device: vec![args.device.clone()],
            ..ServeArgs::default()
        };
        let one_device = |_: &FileNames, errors: &mut ConfigErrors| {
            if !args.device.contains(',') {
                return Some(());
            }
            errors.add("--device", "an evaluation runs on one device");
            None
        };
        let (mut config, ()) = Self::with_files(&serve, one_device)?;
        config.request_log = None;
        Ok(config)
    }

    fn read(args: &ServeArgs, errors: &mut ConfigErrors) -> Option<Self> {
        let models = models::read(&args.model, errors);
        let sources = sources::read(&args.model_sources, errors);
        let listen = errors.parse::<SocketAddr>(
            "--listen",
            &args.listen,
            "an address and port such as 127.0.0.1:8080",
        );
        let grpc_listen = match &args.grpc_listen {
            Some(text) => errors
                .parse(
                    "--grpc-listen",
                    text,
                    "an address and port such as 127.0.0.1:9000",
                )
                .map(Some),
            None => Some(None),
        };
        let admin_listen = match &args.admin_listen {
            Some(text) => errors
                .parse(
                    "--admin-listen",
                    text,
                    "an address and port such as 127.0.0.1:9090",
                )
                .map(Some),
            None => Some(None),
        };
        if args.admin_listen.is_some() && args.api_key_file.is_none() {
            errors.add(
                "--admin-listen",
                "changing models needs a key; name a file of keys with --api-key-file",
            );
        }
        let devices = errors.take("--device", args.device.join(",").parse::<Devices>());
        let kernels = errors.one_of(
            "--kernels",
            &args.kernels,
            &[("auto", Kernels::Auto), ("stock", Kernels::Stock)],
        );
        let threads = match &args.threads {
            Some(text) => errors.count("--threads", text),
            None => NonZeroUsize::new(threads::available()),
        };
        let sessions = match &args.sessions {
            Some(text) => errors.count("--sessions", text).map(Some),
            None => Some(None),
        };
        if let (Some(Device::Auto | Device::Cpu), Some(Some(sessions)), Some(threads)) =
            (devices.as_ref().map(Devices::first), sessions, threads)
            && sessions > threads
        {
            errors.add(
                "--sessions",
                "each session needs a thread of its own; see --threads",
            );
        }
        let max_batch = errors.count("--max-batch", &args.max_batch);
        let batching = errors.one_of(
            "--batching",
            &args.batching,
            &[("auto", Batching::Auto), ("greedy", Batching::Greedy)],
        );
        let request_timeout = errors.duration("--request-timeout", &args.request_timeout);
        let upload_timeout = errors.duration("--upload-timeout", &args.upload_timeout);
        let keep_alive = errors.duration("--keep-alive", &args.keep_alive);
        let drain_delay = errors.duration("--drain-delay", &args.drain_delay);
        let drain_timeout = errors.duration("--drain-timeout", &args.drain_timeout);
        let max_body = errors.size("--max-body", &args.max_body);
        let max_pixels = errors.count("--max-pixels", &args.max_pixels);
        let max_side = errors.count("--max-side", &args.max_side);
        let decode_memory = errors.size("--decode-memory", &args.decode_memory);
        let jpeg_scaling = errors.one_of(
            "--jpeg-scaling",
            &args.jpeg_scaling,
            &[("auto", JpegScaling::Auto), ("off", JpegScaling::Off)],
        );
        let switch = [("true", true), ("false", false)];
        let abstain_unfamiliar =
            errors.one_of("--abstain-unfamiliar", &args.abstain_unfamiliar, &switch);
        let abstain_below = args.abstain_below;
        if abstain_below.is_some_and(|below| !(0.0..=1.0).contains(&below)) {
            errors.add("--abstain-below", "it must be a score from 0 to 1");
        }
        let keep_previews = errors.one_of("--keep-pictures", &args.keep_pictures, &switch);
        let result_cache = match args.result_cache.as_str() {
            "off" => Some(None),
            text => errors.size("--result-cache", text).map(Some),
        };
        let store = store::read(args, keep_previews, errors);
        let sealed_token = store
            .as_ref()
            .is_some_and(|store| matches!(store.kind, StoreKind::SealedToken(_)));
        if args.allow_verify && (sealed_token || keep_previews == Some(false)) {
            errors.add(
                "--allow-verify",
                "a test needs the image of the map, which these --keep-pictures and \
                 --attention-store do not keep",
            );
        }
        let cors = args.cors_origin.as_deref().map(str::parse).transpose();
        let cors = errors.take::<Option<CorsOrigins>>("--cors-origin", cors);
        let hosts = args.allowed_hosts.as_deref().map(str::parse).transpose();
        let hosts = errors.take::<Option<AllowedHosts>>("--allowed-hosts", hosts);
        let fetch_from = match args.fetch_from.is_empty() {
            true => Ok(FetchFrom::default()),
            false => args.fetch_from.join(",").parse(),
        };
        let fetch_from = errors.take::<FetchFrom>("--fetch-from", fetch_from);
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log_format = errors.one_of("--log-format", &args.log_format, &formats);

        let request_log = request_log::read(&args.request_log, errors);
        let traces = tracing::read(&args.tracing, errors);

        if request_timeout.is_some_and(|timeout| timeout.is_zero()) {
            errors.add("--request-timeout", "it must be longer than 0");
        }

        if keep_alive.is_some_and(|rest| rest < SHORTEST_KEEP_ALIVE) {
            errors.add("--keep-alive", "it must be 1s or longer");
        }

        let (listen, max_batch) = (listen?, max_batch?);
        let with_keys = args.api_key_file.is_some();
        let by_default = AllowedHosts::by_default(listen.ip(), with_keys);
        let (model, more_models) = models?;
        Some(Self {
            model,
            more_models,
            sources: sources?,
            listen,
            grpc_listen: grpc_listen?,
            admin_listen: admin_listen?,
            devices: devices?,
            kernels: kernels?,
            threads: threads?.get(),
            sessions: sessions?,
            policy: Policy {
                batching: batching?,
                max_batch,
                max_waiting: max_batch.saturating_mul(NonZeroUsize::new(QUEUE_IN_BATCHES)?),
            },
            limits: RequestLimits {
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
            abstain: AbstainRule {
                below: abstain_below,
                unfamiliar: abstain_unfamiliar?,
            },
            store: store?,
            keep_previews: keep_previews?,
            result_cache: result_cache?,
            allow_verify: args.allow_verify,
            keep_alive: keep_alive?,
            cors: cors?,
            allowed_hosts: hosts?.unwrap_or(by_default),
            fetch_from: fetch_from?,
            request_log: request_log?,
            log_format: log_format?,
            log: args.log.clone(),
            traces,
        })
    }
}

impl FileNames {
    fn read(args: &ServeArgs, errors: &mut ConfigErrors) -> Self {
        let tls = args.tls_cert.clone().zip(args.tls_key.clone());
        if tls.is_none() && (args.tls_cert.is_some() || args.tls_key.is_some()) {
            errors.add("--tls-cert", "--tls-cert and --tls-key go together");
        }
        Self {
            api_keys: args.api_key_file.clone(),
            tls,
        }
    }
}

#[cfg(test)]
mod tests;
