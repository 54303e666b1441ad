//! Flags about models that are named by an address.

use std::path::PathBuf;

use clap::Args;

/// How models that are named by an address are imported, and where they are kept.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// Where models that were named by an address are kept once they are imported [default:
    /// patchlight in the platform's directory for caches]
    #[arg(
        long,
        value_name = "DIR",
        env = "PATCHLIGHT_CACHE_DIR",
        help_heading = "Model"
    )]
    pub cache_dir: Option<PathBuf>,

    /// Of models that are named by an address: fp32, bf16 (for CPUs that multiply it), fp16 (for
    /// GPUs), int8 (for CPUs, with --check) or auto (fp16 on a GPU; on a CPU int8 with --check, else fp32)
    #[arg(
        long,
        value_name = "NAME",
        env = "PATCHLIGHT_PRECISION",
        default_value = "auto",
        help_heading = "Model"
    )]
    pub precision: String,

    /// Compare lower precision with float32 on the images in this folder when a model that is named
    /// by an address is imported
    #[arg(
        long,
        value_name = "DIR",
        env = "PATCHLIGHT_CHECK",
        help_heading = "Model"
    )]
    pub check: Option<PathBuf>,

    /// With --check: the share of images, such as 0.99, whose best class must be that of float32
    #[arg(
        long,
        value_name = "F",
        env = "PATCHLIGHT_MIN_AGREEMENT",
        help_heading = "Model"
    )]
    pub min_agreement: Option<String>,
}
