//! What `patchlight import` takes.

use std::path::PathBuf;

use clap::Args;

/// Flags of `patchlight import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// Checkpoint: the directory of a Hugging Face or timm model, or a file of weights (.pth,
    /// .safetensors of torchvision; .npz of the ViT's authors), or an exported .onnx graph; or where
    /// one is, or an archive of one: hf://ORG/NAME[@REVISION], s3://, gs://, az://, https://
    #[arg(required_unless_present_any = ["arch", "list_families"], conflicts_with = "arch")]
    pub source: Option<PathBuf>,

    /// Print the table of what is imported from where, and with which maps
    #[arg(long, conflicts_with_all = ["arch", "source", "out"])]
    pub list_families: bool,

    /// Where the model directory is written
    #[arg(
        long,
        value_name = "DIR",
        env = "PATCHLIGHT_OUT",
        required_unless_present = "list_families"
    )]
    pub out: Option<PathBuf>,

    /// Where checkpoints that are named by an address are kept until `cache prune`; those of the hub
    /// are kept where its own client keeps them [default: patchlight in the platform's directory for
    /// caches]
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

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

    /// Arithmetic of the large products: fp32, bf16 (for CPUs that multiply it), fp16 (for GPUs),
    /// int8 (for CPUs), or auto (fp16 where there is a GPU; elsewhere int8 with --check, else fp32)
    #[arg(
        long,
        value_name = "NAME",
        default_value = "fp32",
        env = "PATCHLIGHT_PRECISION"
    )]
    pub precision: String,

    /// Compare lower precision with float32 on the images in this folder, before it is written;
    /// needed for int8
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_CHECK")]
    pub check: Option<PathBuf>,

    /// With --check: the share of images, such as 0.99, whose best class must be that of float32;
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

    /// Whose arithmetic resizes images: pillow or torchvision [default: that of the checkpoint's
    /// own processor]
    #[arg(long, value_name = "LIBRARY", env = "PATCHLIGHT_RESIZE")]
    pub resize: Option<String>,

    /// Side of the input in pixels, if not that of the training; positions are resampled
    #[arg(long, value_name = "N", env = "PATCHLIGHT_IMAGE_SIZE")]
    pub image_size: Option<usize>,

    /// Of a .onnx file: serve labels only, and do not look for its attention
    #[arg(long, env = "PATCHLIGHT_WITHOUT_MAP")]
    pub without_map: bool,
}
