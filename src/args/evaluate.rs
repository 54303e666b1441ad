//! Flags of `patchlight evaluate`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Args;

/// Flags of `patchlight evaluate`.
#[derive(Args, Clone, Debug)]
pub struct EvaluateArgs {
    /// JSON listing of images and the boxes of their objects, or a folder with one, in the form
    /// of models/samples/samples.json
    pub listing: PathBuf,

    /// Model directory, or an address as `serve` takes it, such as hf://ORG/NAME [default: the demo]
    #[arg(long, value_name = "SOURCE", env = "PATCHLIGHT_MODEL")]
    pub model: Option<PathBuf>,

    /// Write evaluation.md, evaluation.json and evaluation.svg into this folder
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_OUT")]
    pub out: Option<PathBuf>,

    /// Take only the first so many images
    #[arg(long, value_name = "N", env = "PATCHLIGHT_PICTURES")]
    pub pictures: Option<NonZeroUsize>,

    /// What replaces a patch: mean (the image's mean color), blur, or zero (in the model's units)
    #[arg(
        long,
        value_name = "FILL",
        env = "PATCHLIGHT_FILL",
        default_value = "mean"
    )]
    pub fill: String,

    /// Into how many equal steps deletion and insertion are cut
    #[arg(long, value_name = "N", env = "PATCHLIGHT_STEPS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub steps: u16,

    /// Fixes the random orders
    #[arg(long, value_name = "N", env = "PATCHLIGHT_SEED", default_value_t = 1)]
    pub seed: u64,

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
