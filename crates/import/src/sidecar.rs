//! What the files beside an exported graph say of it: much that a graph cannot tell (labels,
//! preprocessing), and some that it can and that has to agree.

use std::collections::BTreeMap;

use patchlight_imaging::preprocess::Preprocess;
use patchlight_model::manifest::TaskKind;
use patchlight_onnx::vit::Pooling;

/// What is said; `None` where nothing is.
#[derive(Debug)]
pub(crate) struct SidecarMetadata {
    /// What the network is called.
    pub(crate) name: Option<String>,
    pub(crate) layers: Option<usize>,
    pub(crate) heads: Option<usize>,
    /// Height and width of the input.
    pub(crate) image: Option<[usize; 2]>,
    /// What the classifier reads.
    pub(crate) pooling: Option<Pooling>,
    /// How images become inputs.
    pub(crate) preprocess: Preprocess,
    /// One a class, in order.
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) task: TaskKind,
    /// SHA-256 by name of the files that were read.
    pub(crate) source_files: BTreeMap<String, String>,
}
