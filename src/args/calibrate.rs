//! Flags of `patchlight calibrate`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `patchlight calibrate`.
#[derive(Args, Clone, Debug)]
pub struct CalibrateArgs {
    /// Model directory
    pub directory: PathBuf,

    /// Images that the model was not trained on: a folder with a folder for each label (named by it
    /// or by its class's number), a JSON listing of files with class_id or label, or a folder of
    /// images without labels, which say only how familiar an image is
    #[arg(long, value_name = "PATH", env = "PATCHLIGHT_DATA")]
    pub data: PathBuf,

    /// Images of another kind, to measure how many of them are flagged as unlike
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_UNLIKE")]
    pub unlike: Option<PathBuf>,

    /// The share of familiar images that may be flagged as unlike
    #[arg(
        long,
        value_name = "F",
        default_value_t = 0.01,
        env = "PATCHLIGHT_FLAG_RATE"
    )]
    pub flag_rate: f64,

    /// Show what would be written, and write nothing
    #[arg(long, env = "PATCHLIGHT_DRY_RUN")]
    pub dry_run: bool,

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
