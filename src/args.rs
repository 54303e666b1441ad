//! What was typed: every flag and its environment variable. Nothing is interpreted here; values
//! stay text until [`config`](crate::config) has looked at all of them.

mod secret;

use std::path::PathBuf;

use clap::{Args, FromArgMatches, Parser, Subcommand};

pub use self::secret::Secret;

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
    /// Show what a model directory holds
    Inspect(InspectArgs),
    /// Ask a running server whether it is ready: exit status 0 if so
    Health(HealthArgs),
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
        value_delimiter = ','
    )]
    pub model: Vec<PathBuf>,

    /// Address and port to listen on
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "PATCHLIGHT_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,

    /// What computes: auto, cpu, cuda[:N] or tensorrt[:N]
    #[arg(
        long,
        value_name = "DEVICE",
        env = "PATCHLIGHT_DEVICE",
        default_value = "auto"
    )]
    pub device: String,

    /// Threads that compute [default: the cores that affinity and cgroup allow]
    #[arg(long, value_name = "N", env = "PATCHLIGHT_THREADS")]
    pub threads: Option<String>,

    /// The most pictures that run together
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_MAX_BATCH",
        default_value = "8"
    )]
    pub max_batch: String,

    /// How batches are closed: auto, or greedy (all that is queued, up to --max-batch)
    #[arg(
        long,
        value_name = "RULE",
        env = "PATCHLIGHT_BATCHING",
        default_value = "auto"
    )]
    pub batching: String,

    /// How long a request may take; a client can only ask for less
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_REQUEST_TIMEOUT",
        default_value = "10s"
    )]
    pub request_timeout: String,

    /// How long to keep serving after SIGTERM, not ready any more
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_DRAIN_DELAY",
        default_value = "5s"
    )]
    pub drain_delay: String,

    /// How long to finish what was accepted, after that
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_DRAIN_TIMEOUT",
        default_value = "20s"
    )]
    pub drain_timeout: String,

    /// The longest body taken
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_MAX_BODY",
        default_value = "10MiB"
    )]
    pub max_body: String,

    /// The most pixels of a picture
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_MAX_PIXELS",
        default_value = "40000000"
    )]
    pub max_pixels: String,

    /// Memory for pictures being decoded, all together, and as much again for uploads
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_DECODE_MEMORY",
        default_value = "512MiB"
    )]
    pub decode_memory: String,

    /// Large JPEGs: auto (decoded at a fraction of their size where the model needs far fewer
    /// pixels), or off (always in full, exactly as Pillow does)
    #[arg(
        long,
        value_name = "RULE",
        env = "PATCHLIGHT_JPEG_SCALING",
        default_value = "auto"
    )]
    pub jpeg_scaling: String,

    /// Where attention maps are kept: memory, signed (in their own ids), or the address of a Redis or
    /// Valkey server, redis://[:PASSWORD@]HOST[:PORT][/DATABASE] [default: memory]
    #[arg(
        long,
        value_name = "STORE",
        env = "PATCHLIGHT_ATTENTION_STORE",
        hide_env_values = true
    )]
    pub attention_store: Option<Secret>,

    /// File that holds what --attention-store would say, for an address with a password
    #[arg(long, value_name = "FILE", env = "PATCHLIGHT_ATTENTION_STORE_FILE")]
    pub attention_store_file: Option<PathBuf>,

    /// File with the keys that seal signed ids and pictures in Redis: 32 bytes in base64 a line, the
    /// first one seals, all open; it may change while the server runs
    #[arg(long, value_name = "FILE", env = "PATCHLIGHT_SIGNING_KEY_FILE")]
    pub signing_key_file: Option<PathBuf>,

    /// How long an attention map is kept at the longest
    #[arg(
        long,
        value_name = "DURATION",
        env = "PATCHLIGHT_ATTENTION_TTL",
        default_value = "1h"
    )]
    pub attention_ttl: String,

    /// Memory for attention maps and their pictures, with --attention-store memory
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_ATTENTION_MEMORY",
        default_value = "128MiB"
    )]
    pub attention_memory: String,

    /// Keep a bounded copy of each picture for the overlay: true or false
    #[arg(
        long,
        value_name = "BOOL",
        env = "PATCHLIGHT_KEEP_PICTURES",
        default_value = "true"
    )]
    pub keep_pictures: String,

    /// File with the API keys, one a line; without it everyone may ask
    #[arg(long, value_name = "FILE", env = "PATCHLIGHT_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,

    /// Log lines: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        env = "PATCHLIGHT_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: String,

    /// What is logged, such as `info` or `patchlight=debug`
    #[arg(
        long,
        value_name = "FILTER",
        env = "PATCHLIGHT_LOG",
        default_value = "info,ort=warn"
    )]
    pub log: String,
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
    /// .safetensors of torchvision; .npz of the ViT's authors)
    #[arg(required_unless_present = "arch", conflicts_with = "arch")]
    pub source: Option<PathBuf>,

    /// Where the model directory is written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Build this architecture instead of reading a checkpoint, such as vit-l-16
    #[arg(long, value_name = "NAME", requires = "random_weights")]
    pub arch: Option<String>,

    /// With --arch: random weights, for load tests; the labels mean nothing
    #[arg(long, requires = "arch")]
    pub random_weights: bool,

    /// How the rollout joins the heads of a layer: mean, max or min
    #[arg(long, value_name = "RULE", default_value = "mean")]
    pub head_fusion: String,

    /// Labels, one a line, instead of those of the checkpoint
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// Attention heads, where the checkpoint cannot tell
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,

    /// Preprocessing, where the checkpoint cannot tell or is wrong: hf, timm,
    /// torchvision:NAME (such as torchvision:vit_l_16), or a file
    #[arg(long, value_name = "WHICH")]
    pub preprocess: Option<String>,

    /// Side of the input in pixels, if not that of the training; positions are resampled
    #[arg(long, value_name = "N")]
    pub image_size: Option<usize>,
}

/// Flags of `patchlight classify`.
#[derive(Args, Clone, Debug)]
pub struct ClassifyArgs {
    /// Pictures, and folders that are searched for pictures
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Model directory [default: the demo]
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_MODEL")]
    pub model: Option<PathBuf>,

    /// How many labels a picture
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub top_k: usize,

    /// One JSON object a picture and line
    #[arg(long)]
    pub json: bool,

    /// Write a picture of each map into this folder
    #[arg(long, value_name = "DIR")]
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
