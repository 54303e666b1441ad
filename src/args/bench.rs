//! Flags of `patchlight bench`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `patchlight bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Model directory, or an address as `serve` takes it, such as hf://ORG/NAME [default: the demo]
    #[arg(long, value_name = "SOURCE", env = "PATCHLIGHT_MODEL")]
    pub model: Option<PathBuf>,

    /// Where models that were named by an address are kept [default: patchlight in the platform's
    /// directory for caches]
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

    /// What computes: auto, cpu, cuda[:N] or tensorrt[:N]
    #[arg(
        long,
        value_name = "DEVICE",
        env = "PATCHLIGHT_DEVICE",
        default_value = "auto"
    )]
    pub device: String,

    /// Operators: auto (those of this program where they are quicker), or stock (ONNX Runtime's
    /// alone)
    #[arg(
        long,
        value_name = "RULE",
        env = "PATCHLIGHT_KERNELS",
        default_value = "auto"
    )]
    pub kernels: String,

    /// Threads that compute on a CPU [default: the cores that affinity and cgroup allow]
    #[arg(long, value_name = "N", env = "PATCHLIGHT_THREADS")]
    pub threads: Option<usize>,

    /// Sessions that run at the same time and divide the threads
    #[arg(long, value_name = "N", env = "PATCHLIGHT_SESSIONS", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub sessions: u16,

    /// Batch sizes to measure
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_BATCH",
        value_delimiter = ',',
        default_value = "1,8",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub batch: Vec<u16>,

    /// How long each batch size is measured, in seconds
    #[arg(long, value_name = "S", env = "PATCHLIGHT_SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub seconds: u16,

    /// Compute the logits alone, as for requests with attention=none
    #[arg(long, env = "PATCHLIGHT_NO_MAPS")]
    pub no_maps: bool,

    /// Launch each kernel of a small batch on an NVIDIA GPU, instead of recording the launches once
    /// and replaying them
    #[arg(long, env = "PATCHLIGHT_NO_REPLAY")]
    pub no_replay: bool,

    /// Compare so many random images with the CPU's stock operators first
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_COMPARE",
        default_value_t = 0
    )]
    pub compare: usize,

    /// Images to run, and folders of them, whose decoding is timed as well [default: noise]
    #[arg(long, value_name = "PATH", env = "PATCHLIGHT_IMAGES", value_delimiter = ',', num_args = 1..)]
    pub images: Vec<PathBuf>,

    /// Write one JSON object instead of a table
    #[arg(long, env = "PATCHLIGHT_JSON")]
    pub json: bool,
}
