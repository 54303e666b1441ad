//! What every source of weights provides.

use std::collections::BTreeMap;

use crate::{
    import::{ImportError, Stripped},
    model::manifest::TaskKind,
    onnx::vit::{VitSpec, Weights},
    preprocess::Preprocess,
};

/// A source, opened and understood: all that a model directory is made of.
pub(super) struct Checkpoint {
    /// Size, shape and conventions of the network.
    pub(super) spec: VitSpec,
    /// Its constants, read when asked for.
    pub(super) weights: Box<dyn Weights<Error = ImportError>>,
    /// What was left out of the names of its tensors.
    pub(super) stripped: Option<Stripped>,
    /// Number of trained values.
    pub(super) parameters: u64,
    /// One a class, in order; `None` if the source has none.
    pub(super) labels: Option<Vec<String>>,
    /// Whether classes exclude each other.
    pub(super) task: TaskKind,
    /// A caution that every answer repeats.
    pub(super) caution: Option<String>,
    /// From picture to input.
    pub(super) preprocess: Preprocess,
    /// Name of the layout.
    pub(super) source: &'static str,
    /// SHA-256 of the files that were read, by name.
    pub(super) source_files: BTreeMap<String, String>,
}
