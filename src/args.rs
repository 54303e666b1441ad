//! What was typed: every flag and its environment variable. Nothing is interpreted here; values
//! stay text until [`config`](crate::config) has looked at all of them.

mod evaluate;
mod layers;
mod secret;
mod tracing;

use std::path::PathBuf;

use clap::{Args, FromArgMatches, Parser, Subcommand};

pub use self::{
    evaluate::EvaluateArgs,
    layers::{Layers, default_file},
    secret::Secret,
    tracing::TracingArgs,
};

/// Serve a Vision Transformer over HTTP: labels, and which patches the model looked at.
///
/// Without a command it serves the demo model, or the one that --model names.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Cli {
    /// What to do; serving if nothing is named.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The flags of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer HTTP requests (the default)
    Serve(Box<ServeArgs>),
    /// Turn a checkpoint into a model directory
    Import(ImportArgs),
    /// Label pictures on disk, without a server
    Classify(ClassifyArgs),
    /// Measure whether the maps are true, on pictures whose object's place is known
    Evaluate(EvaluateArgs),
    /// Show what a model directory holds
    Inspect(InspectArgs),
    /// Ask a running server whether it is ready: exit status 0 if so
    Health(HealthArgs),
    /// Write the completions of a shell, such as `source <(patchlight completions bash)`
    Completions(CompletionsArgs),
    /// Write the manual page, such as `patchlight man | man -l -`
    Man(ManArgs),
}

/// Flags of `patchlight serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Model directory, as written by `patchlight import`; repeat it, or separate by commas, to
    /// serve several, each called by its directory's name, the first by default [default: the demo]
    #[arg(
        long,
        value_name = "DIR",
        env = "PATCHLIGHT_MODEL",
        value_delimiter = ',',
        help_heading = "Model"
    )]
    pub model: Vec<PathBuf>,

    /// Address and port to listen on
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PATCHLIGHT_LISTEN",
        default_value = "127.0.0.1:8080",
        help_heading = "Network"
    )]
    pub listen: String,

    /// Address and port for changing models while running (needs --api-key-file); /metrics moves there
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PATCHLIGHT_ADMIN_LISTEN",
        help_heading = "Network"
    )]
    pub admin_listen: Option<String>,

    /// What computes: auto, cpu, cuda[:N] or tensorrt[:N]
    #[arg(
        long,
        value_name = "DEVICE",
        env = "PATCHLIGHT_DEVICE",
        default_value = "auto",
        help_heading = "Model"
    )]
    pub device: String,

    /// Threads that compute [default: the cores that affinity and cgroup allow]
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_THREADS",
        help_heading = "Model"
    )]
    pub threads: Option<String>,

    /// The most pictures that run together
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

    /// The most pixels of a picture
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_MAX_PIXELS",
        default_value = "40000000",
        help_heading = "Limits"
    )]
    pub max_pixels: String,

    /// Memory for pictures being decoded, all together, and as much again for uploads
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_DECODE_MEMORY",
        default_value = "512MiB",
        help_heading = "Limits"
    )]
    pub decode_memory: String,

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

    /// Where attention maps are kept: memory, signed (in their own ids), or the address of a Redis or
    /// Valkey server, redis://[:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS [default: memory]
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

    /// File with the keys that seal signed ids and pictures in Redis: 32 bytes in base64 a line, the
    /// first one seals, all open; it may change while the server runs
    #[arg(
        long,
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

    /// Memory for attention maps and their pictures, with --attention-store memory
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_ATTENTION_MEMORY",
        default_value = "128MiB",
        help_heading = "Attention maps"
    )]
    pub attention_memory: String,

    /// Keep a bounded copy of each picture for the overlay: true or false
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

    /// Origins whose pages may ask, such as https://example.org; several with commas, or *
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "PATCHLIGHT_CORS_ORIGIN",
        help_heading = "Network"
    )]
    pub cors_origin: Option<String>,

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
    pub layers: Layers,
}

impl Default for ServeArgs {
    /// What is served when nothing is typed and the environment is silent.
    fn default() -> Self {
        let bare = clap::Command::new("serve");
        let matches = Self::augment_args(bare).get_matches_from(["serve"]);
        Self::from_arg_matches(&matches).unwrap_or_else(|why| why.exit())
    }
}

/// Flags of `patchlight import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// Checkpoint: the directory of a Hugging Face or timm model, or a file of weights (.pth,
    /// .safetensors of torchvision; .npz of the ViT's authors), or an exported .onnx graph
    #[arg(required_unless_present = "arch", conflicts_with = "arch")]
    pub source: Option<PathBuf>,

    /// Where the model directory is written
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_OUT")]
    pub out: PathBuf,

    /// Build this architecture instead of reading a checkpoint, such as vit-l-16
    #[arg(
        long,
        value_name = "NAME",
        requires = "random_weights",
        env = "PATCHLIGHT_ARCH"
    )]
    pub arch: Option<String>,

    /// With --arch: random weights, for load tests; the labels mean nothing
    #[arg(long, requires = "arch", env = "PATCHLIGHT_RANDOM_WEIGHTS")]
    pub random_weights: bool,

    /// Arithmetic of the large products: fp32, fp16 (for GPUs) or int8 (for CPUs)
    #[arg(
        long,
        value_name = "NAME",
        default_value = "fp32",
        env = "PATCHLIGHT_PRECISION"
    )]
    pub precision: String,

    /// Compare lower precision with float32 on the pictures in this folder, before it is written;
    /// needed for int8
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_CHECK")]
    pub check: Option<PathBuf>,

    /// With --check: the share of pictures, such as 0.99, whose best class must be that of float32;
    /// the worst layers of an int8 model stay in float32 until it is
    #[arg(long, value_name = "F", env = "PATCHLIGHT_MIN_AGREEMENT")]
    pub min_agreement: Option<f64>,

    /// How the rollout joins the heads of a layer: mean, max or min
    #[arg(
        long,
        value_name = "RULE",
        default_value = "mean",
        env = "PATCHLIGHT_HEAD_FUSION"
    )]
    pub head_fusion: String,

    /// Labels, one a line, instead of those of the checkpoint
    #[arg(long, value_name = "FILE", env = "PATCHLIGHT_LABELS")]
    pub labels: Option<PathBuf>,

    /// Attention heads, where the checkpoint cannot tell
    #[arg(long, value_name = "N", env = "PATCHLIGHT_HEADS")]
    pub heads: Option<usize>,

    /// Preprocessing, where the checkpoint cannot tell or is wrong: hf, timm,
    /// torchvision:NAME (such as torchvision:vit_l_16), or a file
    #[arg(long, value_name = "WHICH", env = "PATCHLIGHT_PREPROCESS")]
    pub preprocess: Option<String>,

    /// Side of the input in pixels, if not that of the training; positions are resampled
    #[arg(long, value_name = "N", env = "PATCHLIGHT_IMAGE_SIZE")]
    pub image_size: Option<usize>,

    /// Of a .onnx file: serve labels only, and do not look for its attention
    #[arg(long, env = "PATCHLIGHT_WITHOUT_MAP")]
    pub without_map: bool,
}

/// Flags of `patchlight classify`.
#[derive(Args, Clone, Debug)]
pub struct ClassifyArgs {
    /// Pictures, folders that are searched for pictures, and patterns such as 'photos/**/*.jpg'
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Model directory [default: the demo]
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_MODEL")]
    pub model: Option<PathBuf>,

    /// How many labels a picture
    #[arg(long, value_name = "N", default_value_t = 5, env = "PATCHLIGHT_TOP_K")]
    pub top_k: usize,

    /// One JSON object a picture and line
    #[arg(long, env = "PATCHLIGHT_JSON")]
    pub json: bool,

    /// Write a picture of each map into this folder
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_OVERLAY")]
    pub overlay: Option<PathBuf>,

    /// What computes: auto, cpu, cuda[:N] or tensorrt[:N]
    #[arg(
        long,
        value_name = "DEVICE",
        env = "PATCHLIGHT_DEVICE",
        default_value = "auto"
    )]
    pub device: String,
}

/// Flags of `patchlight inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// Model directory
    pub directory: PathBuf,
}

/// Flags of `patchlight health`.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// The server [default: http:// and the address of PATCHLIGHT_LISTEN, on the loopback]
    pub url: Option<String>,
}

/// Flags of `patchlight completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// Flags of `patchlight man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The page of this command instead of the program's
    pub command: Option<String>,
}
