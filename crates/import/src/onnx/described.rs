//! What the files beside an exported graph say of it: much that a graph cannot tell (labels,
//! preprocessing), and some that it can and that has to agree.

use std::collections::BTreeMap;

use patchlight_imaging::preprocess::Preprocess;
use patchlight_model::manifest::TaskKind;
use patchlight_onnx::vit::Readout;

use crate::{
    ImportError, ImportOptions, huggingface, preprocessing,
    source::{Description, Located, description},
    timm,
};

/// What is said; `None` where nothing is.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) layers: Option<usize>,
    pub(crate) heads: Option<usize>,
    /// Height and width of the input.
    pub(crate) image: Option<[usize; 2]>,
    /// What the classifier reads.
    pub(crate) readout: Option<Readout>,
    /// How pictures become inputs.
    pub(crate) preprocess: Preprocess,
    /// One a class, in order.
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) task: TaskKind,
    /// SHA-256 by name of the files that were read.
    pub(crate) source_files: BTreeMap<String, String>,
}

impl Described {
    /// Reads `config.json` and what belongs to it; without one, what the command line says.
    ///
    /// # Errors
    /// If a file cannot be read, or nothing tells how pictures become inputs.
    pub(super) fn read(
        located: &Located,
        options: &ImportOptions,
        patch: usize,
        classes: usize,
    ) -> Result<Self, ImportError> {
        if let Ok(config) = located.config() {
            return match description(config)? {
                Description::HuggingFace => huggingface::describe(located, options, classes),
                Description::Timm => timm::describe(located, options, patch, classes),
            };
        }
        let (preprocess, source_files) = preprocessing::of(located, options, || {
            Err(ImportError::Preprocess(
                "the graph does not tell how pictures are resized and normalised, and there is no \
                 config.json beside it; put the model's config.json (and its \
                 preprocessor_config.json, of Hugging Face) there, or describe it with --preprocess"
                    .to_owned(),
            ))
        })?;
        Ok(Self {
            layers: None,
            heads: options.heads,
            image: None,
            readout: None,
            preprocess,
            labels: None,
            task: TaskKind::SingleLabel,
            source_files,
        })
    }
}
