//! What `patchlight serve` takes.

use std::path::PathBuf;

use clap::{Args, FromArgMatches};

use super::{RequestLogArgs, Secret, SettingSources, SourceArgs, TracingArgs};

/// Flags of `patchlight serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Model directory, as written by `patchlight import`, or an address (hf://ORG/NAME[@REVISION],
    /// s3://, gs://, az://, https:// of a directory, an archive or a file of weights), which is
    /// fetched and imported when it is named for the first time; repeat it, or separate by commas, to
    /// serve several, each called by the last part of its path or as in NAME=SOURCE, the first by
    /// default [default: the demo]
    #[arg(
        long,
        value_name = "SOURCE",
        env = "PATCHLIGHT_MODEL",
        value_delimiter = ',',
        help_heading = "Model"
    )]
    pub model: Vec<PathBuf>,

    /// Models that are named by an address.
    #[command(flatten)]
    pub model_sources: SourceArgs,

    /// Address and port to listen on
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PATCHLIGHT_LISTEN",
        default_value = "127.0.0.1:8080",
        help_heading = "Network"
    )]
    pub listen: String,

    /// Address and port for gRPC alone; gRPC is served at --listen in any case
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PATCHLIGHT_GRPC_LISTEN",
        help_heading = "Network"
    )]
    pub grpc_listen: Option<String>,

    /// Address and port for changing models while running (needs --api-key-file); /metrics moves
    /// there
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PATCHLIGHT_ADMIN_LISTEN",
        help_heading = "Network"
    )]
    pub admin_listen: Option<String>,

    /// What computes: auto (CUDA if built in and working, or else the CPU), cpu, cuda[:N] or
    /// tensorrt[:N]; several cards serve together (cuda:0,1, or the flag again), each with the whole
    /// model, behind one queue
    #[arg(
        long,
        value_name = "DEVICE",
        env = "PATCHLIGHT_DEVICE",
        value_delimiter = ',',
        default_value = "auto",
        help_heading = "Model"
    )]
    pub device: Vec<String>,

    /// Operators: auto (those of this program where they are quicker: processors with AVX-512 VNNI
    /// or AMX, NVIDIA GPUs), or stock (ONNX Runtime's alone)
    #[arg(
        long,
        value_name = "RULE",
        env = "PATCHLIGHT_KERNELS",
        default_value = "auto",
        help_heading = "Model"
    )]
    pub kernels: String,

    /// Threads that compute [default: the cores that affinity and cgroup allow]
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_THREADS",
        help_heading = "Model"
    )]
    pub threads: Option<String>,

    /// Batches of each model that run at a time. On a CPU each has a session, the threads divided
    /// among them: more answer a crowd sooner and a single request later, and each holds the
    /// weights. On an NVIDIA GPU they share one session where this program's kernels run
    /// [default: 1; 2 where they share]
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_SESSIONS",
        help_heading = "Model"
    )]
    pub sessions: Option<String>,

    /// The most images that run together
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_MAX_BATCH",
        default_value = "8",
        help_heading = "Model"
    )]
    pub max_batch: String,

    /// How batches are closed: auto, or greedy (all that is queued, up to --max-batch)
    #[arg(
        long,
        value_name = "RULE",
        env = "PATCHLIGHT_BATCHING",
        default_value = "auto",
        help_heading = "Model"
    )]
    pub batching: String,

    /// How long a request may take; a client can only ask for less
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_REQUEST_TIMEOUT",
        default_value = "10s",
        help_heading = "Limits"
    )]
    pub request_timeout: String,

    /// How long a body may take to arrive
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_UPLOAD_TIMEOUT",
        default_value = "30s",
        help_heading = "Limits"
    )]
    pub upload_timeout: String,

    /// How long to keep serving after SIGTERM, not ready any more
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_DRAIN_DELAY",
        default_value = "5s",
        help_heading = "Stopping"
    )]
    pub drain_delay: String,

    /// How long to finish what was accepted, after that
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_DRAIN_TIMEOUT",
        default_value = "20s",
        help_heading = "Stopping"
    )]
    pub drain_timeout: String,

    /// The longest body taken
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_MAX_BODY",
        default_value = "10MiB",
        help_heading = "Limits"
    )]
    pub max_body: String,

    /// The most pixels of an image
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_MAX_PIXELS",
        default_value = "40000000",
        help_heading = "Limits"
    )]
    pub max_pixels: String,

    /// The longest side of an image, in pixels
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_MAX_SIDE",
        default_value = "16384",
        help_heading = "Limits"
    )]
    pub max_side: String,

    /// Memory for images being decoded, all together, and as much again for uploads
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_DECODE_MEMORY",
        default_value = "512MiB",
        help_heading = "Limits"
    )]
    pub decode_memory: String,

    /// Mark answers of calibrated models ("abstain": true) whose calibrated score is below this, such
    /// as 0.6
    #[arg(
        long,
        value_name = "F",
        env = "PATCHLIGHT_ABSTAIN_BELOW",
        help_heading = "Model"
    )]
    pub abstain_below: Option<f64>,

    /// Mark answers of calibrated models ("abstain": true) to images unlike those that the model was
    /// calibrated on
    #[arg(
        long,
        value_name = "BOOL",
        env = "PATCHLIGHT_ABSTAIN_UNFAMILIAR",
        default_value = "false",
        help_heading = "Model"
    )]
    pub abstain_unfamiliar: String,

    /// Large JPEGs: auto (decoded at a fraction of their size where the model needs far fewer
    /// pixels), or off (always in full, exactly as Pillow does)
    #[arg(
        long,
        value_name = "RULE",
        env = "PATCHLIGHT_JPEG_SCALING",
        default_value = "auto",
        help_heading = "Limits"
    )]
    pub jpeg_scaling: String,

    /// Where attention maps are kept: memory, signed (in their own ids), or the address of a Redis
    /// or Valkey server, redis://[:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS [default:
    /// memory]
    #[arg(
        long,
        value_name = "STORE",
        env = "PATCHLIGHT_ATTENTION_STORE",
        hide_env_values = true,
        help_heading = "Attention maps"
    )]
    pub attention_store: Option<Secret>,

    /// File that holds what --attention-store would say, for an address with a password
    #[arg(
        long,
        value_name = "FILE",
        env = "PATCHLIGHT_ATTENTION_STORE_FILE",
        help_heading = "Attention maps"
    )]
    pub attention_store_file: Option<PathBuf>,

    /// File with the keys that seal signed ids and images in Redis: 32 bytes in base64 a line, the
    /// first one seals, all open; it may change while the server runs
    #[arg(
        long,
        visible_alias = "sealing-key-file",
        value_name = "FILE",
        env = "PATCHLIGHT_SIGNING_KEY_FILE",
        help_heading = "Attention maps"
    )]
    pub signing_key_file: Option<PathBuf>,

    /// How long an attention map is kept at the longest
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_ATTENTION_TTL",
        default_value = "1h",
        help_heading = "Attention maps"
    )]
    pub attention_ttl: String,

    /// Memory for attention maps and their images, with --attention-store memory
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_ATTENTION_MEMORY",
        default_value = "128MiB",
        help_heading = "Attention maps"
    )]
    pub attention_memory: String,

    /// Keep a bounded copy of each image for the overlay: true or false
    #[arg(
        long,
        value_name = "BOOL",
        env = "PATCHLIGHT_KEEP_PICTURES",
        default_value = "true",
        help_heading = "Attention maps"
    )]
    pub keep_pictures: String,

    /// Memory for results of identical requests, such as 64MiB, or off
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_RESULT_CACHE",
        default_value = "off",
        help_heading = "Limits"
    )]
    pub result_cache: String,

    /// File with the API keys, one a line; without it everyone may ask
    #[arg(
        long,
        value_name = "FILE",
        env = "PATCHLIGHT_API_KEY_FILE",
        help_heading = "Network"
    )]
    pub api_key_file: Option<PathBuf>,

    /// Certificate chain in PEM: HTTPS instead of HTTP; renewed files are taken while running
    #[arg(
        long,
        value_name = "FILE",
        env = "PATCHLIGHT_TLS_CERT",
        help_heading = "Network"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Its private key in PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "PATCHLIGHT_TLS_KEY",
        help_heading = "Network"
    )]
    pub tls_key: Option<PathBuf>,

    /// How long a connection may rest between requests; longer than a load balancer in front keeps
    /// its own
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_KEEP_ALIVE",
        default_value = "75s",
        help_heading = "Network"
    )]
    pub keep_alive: String,

    /// Origins whose pages may ask, such as https://example.org; several with commas, or *
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "PATCHLIGHT_CORS_ORIGIN",
        help_heading = "Network"
    )]
    pub cors_origin: Option<String>,

    /// Names that the server may be called by besides localhost, such as example.org; several with
    /// commas, or * [default: none on a loopback address without keys, otherwise *]
    #[arg(
        long,
        value_name = "HOST",
        env = "PATCHLIGHT_ALLOWED_HOSTS",
        help_heading = "Network"
    )]
    pub allowed_hosts: Option<String>,

    /// Hosts that images may be fetched from which requests name by their URL: example.org,
    /// example.org:8443, *.example.org, or http://HOST:PORT for one without TLS; and ranges of
    /// addresses, such as 10.0.0.0/8, that these hosts may be at besides public ones; several with
    /// commas [default: none, and nothing is fetched]
    #[arg(
        long,
        value_name = "HOST",
        env = "PATCHLIGHT_FETCH_FROM",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    pub fetch_from: Vec<String>,

    /// Let clients test maps by perturbation, in the background: some fifty runs a test
    #[arg(long, env = "PATCHLIGHT_ALLOW_VERIFY", help_heading = "Attention maps")]
    pub allow_verify: bool,

    /// Log lines: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        env = "PATCHLIGHT_LOG_FORMAT",
        default_value = "text",
        help_heading = "Logs"
    )]
    pub log_format: String,

    /// What is logged, such as `info` or `patchlight=debug`
    #[arg(
        long,
        value_name = "FILTER",
        env = "PATCHLIGHT_LOG",
        default_value = "info,ort=warn",
        help_heading = "Logs"
    )]
    pub log: String,

    /// Where traces go.
    #[command(flatten)]
    pub tracing: TracingArgs,

    /// Where events about answers go.
    #[command(flatten)]
    pub request_log: RequestLogArgs,

    /// TOML file with settings, a flag's name being the key; flags and environment go before it
    #[arg(
        long,
        value_name = "FILE",
        env = "PATCHLIGHT_CONFIG",
        help_heading = "Configuration"
    )]
    pub config: Option<PathBuf>,

    /// Print a configuration file with every default, and exit
    #[arg(long, help_heading = "Configuration")]
    pub print_config: bool,

    /// Where settings come from that were not typed.
    #[arg(skip)]
    pub sources: SettingSources,
}

impl Default for ServeArgs {
    /// What is served when nothing is typed and the environment is silent.
    fn default() -> Self {
        let bare = clap::Command::new("serve");
        let matches = Self::augment_args(bare).get_matches_from(["serve"]);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}
