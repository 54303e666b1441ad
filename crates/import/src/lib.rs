//! From a checkpoint to a model directory of patchlight.
//!
//! Reads the Vision Transformers of Hugging Face (ViT, DeiT), timm, torchvision and the authors'
//! JAX files, and exported ONNX graphs, and writes a directory with an ONNX graph whose outputs
//! include the attention rollout, its labels, and a manifest with the digests of all files. Nothing
//! of a checkpoint is run: pickles are read as data.
//!
//! ```no_run
//! use patchlight_import::{ImportError, ImportOptions, Source};
//!
//! # fn main() -> Result<(), ImportError> {
//! let source = Source::Checkpoint("checkpoints/vit-base-patch16-224".into());
//! let options = ImportOptions::new(source, "models/vit-base".into());
//! let summary = patchlight_import::run(&options, &mut |progress| {
//!     eprintln!("{}: {} of {}", progress.phase, progress.done, progress.total);
//! })?;
//! println!("{summary}");
//! # Ok(())
//! # }
//! ```
//!
//! The ONNX Runtime is needed for exported graphs and for [`CheckOptions`] only; it is loaded then,
//! or given in [`ImportOptions::runtime`].
//!
//! # How it is divided
//!
//! ```text
//!  tensor_file      files of named tensors: safetensors, torch.save, npz, shards
//!    └─► layout     names and storage → constants of the graph, in its order
//!          huggingface · timm · torchvision · jax   (source tells which)
//!            └─► checkpoint: specification, weights, labels, preprocessing
//!  preprocessing    preprocessor_config.json, pretrained_cfg, torchvision's presets
//!  onnx             an exported graph: it stays as it is, and the rollout is added
//!  directory        puts the files in place, the manifest with their digests last
//!  check            lower precision compared with float32
//! ```
//!
//! A layout, or the generator `random`, gives a checkpoint; [`patchlight_onnx::vit`] writes the
//! graph.

mod cancel;
mod check;
mod checkpoint;
mod directory;
mod error;
mod families;
mod huggingface;
mod input_size;
mod jax;
mod labels;
mod layout;
mod onnx;
mod paths;
mod preprocessing;
mod random;
mod sidecar;
mod small_file;
mod source;
mod summary;
pub mod tensor_file;
#[cfg(test)]
mod tests;
mod text_embeddings;
mod timm;
mod torchvision;
mod vit_config;

use std::path::{Path, PathBuf};

pub use cancel::CancelFlag;
pub use check::CheckOptions;
pub use directory::IMPORTER;
pub use error::ImportError;
pub use families::{FamilyRow, families_table, list_families};
pub use onnx::analyze as analyze_graph;
pub use preprocessing::PreprocessSource;
pub use random::Arch;
pub use summary::Summary;
pub use tensor_file::Stripped;

use check::SelectedPrecision;
use checkpoint::Checkpoint;
use directory::ModelDirWriter;
use sidecar::SidecarMetadata;

pub use patchlight_engine::Runtime;
use patchlight_imaging::preprocess::Backend;
use patchlight_model::manifest::{HeadFusion, Origin, Precision, PrecisionCheck};
use patchlight_onnx::{
    tensor::Tensor,
    vit::{PrecisionPlan, VitSpec, WeightId, Weights},
};

/// What to import, and where to.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Where the weights come from.
    pub source: Source,
    /// The model directory to make, or to replace if there is one. Other files in it stay.
    pub out: PathBuf,
    /// Where the source was fetched from, if it was.
    pub origin: Option<Origin>,
    /// How the heads' attention matrices become one for the rollout.
    pub head_fusion: HeadFusion,
    /// A file with one label a line, instead of the checkpoint's.
    pub labels: Option<PathBuf>,
    /// Embeddings of texts, one a label, that make a classifier of a network which compares images
    /// with texts.
    pub text_embeddings: Option<PathBuf>,
    /// Attention heads, where the checkpoint does not tell.
    pub heads: Option<usize>,
    /// Where the preprocessing is described, instead of the checkpoint's own place.
    pub preprocess: Option<PreprocessSource>,
    /// The library whose arithmetic resizes, instead of the one that the checkpoint's own runs
    /// with.
    pub resize: Option<Backend>,
    /// Side of the input in pixels, if not that of the training: positions are resampled.
    pub image_size: Option<usize>,
    /// Arithmetic of the large matrix products.
    pub precision: Precision,
    /// Images on which it is compared with float32 first.
    pub check: Option<CheckOptions>,
    /// Of an exported graph: serve labels only, and do not look for its attention.
    pub without_map: bool,
    /// What graphs are run with where that is needed; loaded then if none is given.
    pub runtime: Option<Runtime>,
    /// Ends the import early.
    pub cancel: CancelFlag,
}

impl ImportOptions {
    /// This source and directory, and everything else as the checkpoint says.
    pub fn new(source: Source, out: PathBuf) -> Self {
        Self {
            source,
            out,
            origin: None,
            head_fusion: HeadFusion::Mean,
            labels: None,
            text_embeddings: None,
            heads: None,
            preprocess: None,
            resize: None,
            image_size: None,
            precision: Precision::Fp32,
            check: None,
            without_map: false,
            runtime: None,
            cancel: CancelFlag::default(),
        }
    }

    /// # Errors
    /// If the import was cancelled.
    fn check_cancelled(&self) -> Result<(), ImportError> {
        self.cancel.check_cancelled()
    }

    /// The runtime that was given, or else one loaded now.
    fn loaded_runtime(&self) -> Result<Runtime, ImportError> {
        match &self.runtime {
            Some(runtime) => Ok(runtime.clone()),
            None => Ok(Runtime::load()?),
        }
    }
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A checkpoint's directory, or its file of weights.
    Checkpoint(PathBuf),
    /// Random weights of a usual size, for load tests.
    RandomWeights(Arch),
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// What is being done, in a word or two.
    pub phase: &'static str,
    /// Constants written, or images compared.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// Makes a model directory. `progress` is called before each constant is read, and before each
/// batch of images is compared.
///
/// Files are written elsewhere and put in place at the end: a new directory appears whole, and of
/// one that is replaced `model.toml` comes last, so that it never matches half of its files.
///
/// # Errors
/// If the source lacks something or holds what this program does not know, a file cannot be read or
/// written, or lower precision does not agree with float32 as asked; the message names it.
pub fn run(
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let Some(check) = &options.check else {
        let plan = PrecisionPlan::uniform(options.precision);
        return write(options, &options.out, &plan, None, progress);
    };
    let SelectedPrecision {
        plan,
        checked,
        errors,
    } = check::select_precision(options, check, progress)?;
    let summary = write(options, &options.out, &plan, Some(checked), progress)?;
    Ok(Summary { errors, ..summary })
}

/// Writes a model directory with the precisions of `plan`.
fn write(
    options: &ImportOptions,
    out: &Path,
    plan: &PrecisionPlan,
    checked: Option<PrecisionCheck>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let mut checkpoint = match &options.source {
        Source::Checkpoint(path) => match source::graph(path) {
            Some(graph) => {
                source::refuse_text_embeddings(options)?;
                return onnx::run(&graph, options, progress);
            }
            None => source::open(path, options)?,
        },
        Source::RandomWeights(arch) => {
            source::refuse_text_embeddings(options)?;
            random::checkpoint(*arch, options.head_fusion)
        }
    };
    let stripped = checkpoint.stripped.take();
    let given = options.labels.as_deref();
    let (labels, named) =
        labels::resolve(given, checkpoint.labels.take(), checkpoint.spec.classes)?;

    let mut directory = ModelDirWriter::prepare(out)?;
    let mut weights = ProgressWeights {
        inner: checkpoint.weights.as_mut(),
        options,
        progress,
        done: 0,
        total: checkpoint.spec.weight_ids().len(),
    };
    directory.write_graph(&checkpoint.spec, plan, &mut weights)?;
    directory.write_labels(&labels)?;
    let manifest = directory::manifest(
        &checkpoint,
        plan.precision,
        checked,
        options.origin.as_ref(),
    );
    let manifest = directory.finish(manifest)?;
    Ok(Summary {
        stripped,
        ..Summary::new(out.to_owned(), manifest, named)
    })
}

/// Reports progress and checks for cancellation before each weight is read.
struct ProgressWeights<'a> {
    inner: &'a mut dyn Weights<Error = ImportError>,
    options: &'a ImportOptions,
    progress: &'a mut dyn FnMut(Progress),
    done: usize,
    total: usize,
}

impl Weights for ProgressWeights<'_> {
    type Error = ImportError;

    fn tensor(&mut self, weight: WeightId) -> Result<Tensor, ImportError> {
        self.options.check_cancelled()?;
        (self.progress)(Progress {
            phase: "weights",
            done: self.done,
            total: self.total,
        });
        self.done += 1;
        self.inner.tensor(weight)
    }
}

/// Whether constants take so much space that they get a file of their own.
fn is_large(spec: &VitSpec) -> bool {
    const FLOAT32_VALUES_IN_64_MIB: u64 = 16 << 20;
    spec.parameters() > FLOAT32_VALUES_IN_64_MIB
}
