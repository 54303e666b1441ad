//! What `patchlight classify` takes.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use clap::Args;

/// Flags of `patchlight classify`.
#[derive(Args, Clone, Debug)]
pub struct ClassifyArgs {
    /// Images, folders that are searched for images, and patterns such as 'photos/**/*.jpg'
    #[arg(required_unless_present = "list", value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// File with the path of an image on each line, or - for standard input
    #[arg(
        long,
        value_name = "FILE",
        env = "PATCHLIGHT_LIST",
        help_heading = "Many images"
    )]
    pub list: Option<PathBuf>,

    /// Take every N-th image, from the I-th on, counted from 0
    #[arg(
        long,
        value_name = "I/N",
        env = "PATCHLIGHT_SHARD",
        help_heading = "Many images"
    )]
    pub shard: Option<String>,

    /// How many shards there are, in an indexed Job of Kubernetes, which says which one this is
    /// (JOB_COMPLETION_INDEX)
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_SHARD_COUNT",
        help_heading = "Many images"
    )]
    pub shard_count: Option<NonZeroU64>,

    /// Write JSON lines into parts of this file, such as results.jsonl: each appears when it is
    /// whole, as results-I-of-N.PART.jsonl
    #[arg(
        long,
        value_name = "FILE",
        env = "PATCHLIGHT_OUT",
        help_heading = "Many images"
    )]
    pub out: Option<PathBuf>,

    /// How many images a part has
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_PART_SIZE",
        default_value = "10000",
        help_heading = "Many images"
    )]
    pub part_size: NonZeroU64,

    /// Go on behind the parts that are there
    #[arg(
        long,
        env = "PATCHLIGHT_RESUME",
        requires = "out",
        help_heading = "Many images"
    )]
    pub resume: bool,

    /// The share of images, from 0 to 1, that may fail without the exit status saying so
    #[arg(
        long,
        value_name = "SHARE",
        env = "PATCHLIGHT_MAX_FAILURES",
        default_value = "0",
        help_heading = "Many images"
    )]
    pub max_failures: String,

    /// Put each image's rollout into its JSON line
    #[arg(long, env = "PATCHLIGHT_MAPS", help_heading = "Many images")]
    pub maps: bool,

    /// Put the best label's evidence into each image's JSON line
    #[arg(long, env = "PATCHLIGHT_EVIDENCE", help_heading = "Many images")]
    pub evidence: bool,

    /// Model directory, or an address as `serve` takes it, such as hf://ORG/NAME [default: the demo]
    #[arg(long, value_name = "SOURCE", env = "PATCHLIGHT_MODEL")]
    pub model: Option<PathBuf>,

    /// Where models that were named by an address are kept [default: patchlight in the platform's
    /// directory for caches]
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

    /// How many labels per image
    #[arg(long, value_name = "N", default_value = "5", env = "PATCHLIGHT_TOP_K")]
    pub top_k: NonZeroUsize,

    /// One JSON object per image and line
    #[arg(long, env = "PATCHLIGHT_JSON")]
    pub json: bool,

    /// Write an image of each map into this folder
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_OVERLAY")]
    pub overlay: Option<PathBuf>,

    /// What computes: auto (CUDA if built in and working, or else the CPU), cpu, cuda[:N] or
    /// tensorrt[:N]
    #[arg(
        long,
        value_name = "DEVICE",
        env = "PATCHLIGHT_DEVICE",
        default_value = "auto"
    )]
    pub device: String,
}
