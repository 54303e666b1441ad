//! From a checkpoint to a model directory.
//!
//! ```text
//!  tensor_file    files of named tensors: safetensors, torch.save, npz, shards
//!    └─► layout   names and storage → constants of the graph, in its order
//!          huggingface · timm · torchvision · jax   (source tells which)
//!            └─► checkpoint: specification, weights, labels, preprocessing
//! ```
//!
//! An exported graph goes another way, in [`onnx`]: it stays as it is, and the rollout is added.
//!
//! A layout, or the generator [`random`], gives a [`Checkpoint`]; [`crate::onnx::vit`] writes the
//! graph; [`directory`] puts the files in place, the manifest with their digests last. Lower
//! precision is compared with float32 first ([`check`]).

mod cancel;
mod check;
mod checkpoint;
mod directory;
mod error;
mod huggingface;
mod jax;
mod labels;
mod layout;
mod onnx;
mod preprocessing;
mod random;
mod small_file;
mod source;
mod summary;
pub(crate) mod tensor_file;
#[cfg(test)]
mod tests;
mod timm;
mod torchvision;

use std::path::{Path, PathBuf};

pub use cancel::Cancel;
pub use check::CheckOptions;
pub use error::ImportError;
pub use preprocessing::PreprocessSource;
pub use random::Arch;
pub use summary::Summary;
pub use tensor_file::Stripped;

#[cfg(any(test, fuzzing))]
pub(crate) use onnx::look as look_at_graph;

use check::Settled;
use checkpoint::Checkpoint;
use directory::Directory;
use onnx::Described;

use crate::{
    engine::Runtime,
    model::manifest::{Checked, HeadFusion, Precision},
    onnx::tensor::Tensor,
    onnx::vit::{Arithmetic, Role, VitSpec, Weights},
    preprocess::Backend,
};

/// What to import, and where to.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Where the weights come from.
    pub source: Source,
    /// The model directory to make, or to replace if there is one. Other files in it stay.
    pub out: PathBuf,
    /// How the heads' attention matrices become one for the rollout.
    pub head_fusion: HeadFusion,
    /// A file with one label a line, instead of the checkpoint's.
    pub labels: Option<PathBuf>,
    /// Attention heads, where the checkpoint does not tell.
    pub heads: Option<usize>,
    /// Where the preprocessing is described, instead of the checkpoint's own place.
    pub preprocess: Option<PreprocessSource>,
    /// The library whose arithmetic resizes, instead of the one that the checkpoint's own runs with.
    pub resize: Option<Backend>,
    /// Side of the input in pixels, if not that of the training: positions are resampled.
    pub image_size: Option<usize>,
    /// Arithmetic of the large matrix products.
    pub precision: Precision,
    /// Pictures on which it is compared with float32 first.
    pub check: Option<CheckOptions>,
    /// Of an exported graph: serve labels only, and do not look for its attention.
    pub without_map: bool,
    /// What graphs are run with where that is needed; loaded then if none is given.
    pub runtime: Option<Runtime>,
    /// Ends the import early.
    pub cancel: Cancel,
}

impl ImportOptions {
    /// These two, and everything else as the checkpoint says.
    pub fn new(source: Source, out: PathBuf) -> Self {
        Self {
            source,
            out,
            head_fusion: HeadFusion::Mean,
            labels: None,
            heads: None,
            preprocess: None,
            resize: None,
            image_size: None,
            precision: Precision::Fp32,
            check: None,
            without_map: false,
            runtime: None,
            cancel: Cancel::default(),
        }
    }

    /// # Errors
    /// If the import is to end.
    fn go_on(&self) -> Result<(), ImportError> {
        self.cancel.go_on()
    }

    /// What was given, or else loaded now.
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
    /// Weights that mean nothing, of a usual size, for load tests.
    RandomWeights(Arch),
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// What is being done, in a word or two.
    pub phase: &'static str,
    /// Constants written, or pictures compared.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// Makes a model directory. `progress` is called before each constant is read, and before each
/// batch of pictures is compared.
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
        let arithmetic = Arithmetic::all(options.precision);
        return write(options, &options.out, &arithmetic, None, progress);
    };
    let Settled {
        arithmetic,
        checked,
        errors,
    } = check::settle(options, check, progress)?;
    let summary = write(options, &options.out, &arithmetic, Some(checked), progress)?;
    Ok(Summary { errors, ..summary })
}

/// Writes a model directory in the arithmetic that is given.
fn write(
    options: &ImportOptions,
    out: &Path,
    arithmetic: &Arithmetic,
    checked: Option<Checked>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    let mut checkpoint = match &options.source {
        Source::Checkpoint(path) => match source::graph(path) {
            Some(graph) => return onnx::run(&graph, options, progress),
            None => source::open(path, options)?,
        },
        Source::RandomWeights(arch) => random::checkpoint(*arch, options.head_fusion),
    };
    let stripped = checkpoint.stripped.take();
    let given = options.labels.as_deref();
    let (labels, named) = labels::settle(given, checkpoint.labels.take(), checkpoint.spec.classes)?;

    let mut directory = Directory::prepare(out)?;
    let mut weights = Counted {
        inner: checkpoint.weights.as_mut(),
        options,
        progress,
        done: 0,
        total: checkpoint.spec.roles().len(),
    };
    directory.write_graph(&checkpoint.spec, arithmetic, &mut weights)?;
    directory.write_labels(&labels)?;
    let manifest = directory::manifest(&checkpoint, arithmetic.precision, checked);
    let manifest = directory.finish(manifest)?;
    Ok(Summary {
        stripped,
        ..Summary::new(out.to_owned(), manifest, named)
    })
}

/// Weights whose reading is reported.
struct Counted<'a> {
    inner: &'a mut dyn Weights<Error = ImportError>,
    options: &'a ImportOptions,
    progress: &'a mut dyn FnMut(Progress),
    done: usize,
    total: usize,
}

impl Weights for Counted<'_> {
    type Error = ImportError;

    fn tensor(&mut self, role: Role) -> Result<Tensor, ImportError> {
        self.options.go_on()?;
        (self.progress)(Progress {
            phase: "weights",
            done: self.done,
            total: self.total,
        });
        self.done += 1;
        self.inner.tensor(role)
    }
}

/// Whether constants take so much space that they get a file of their own.
fn is_large(spec: &VitSpec) -> bool {
    const FLOAT32_VALUES_IN_64_MIB: u64 = 16 << 20;
    spec.parameters() > FLOAT32_VALUES_IN_64_MIB
}
