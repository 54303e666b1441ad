//! What the files beside an exported graph say of it: much that a graph cannot tell (labels,
//! preprocessing), and some that it can and that has to agree.

use std::collections::BTreeMap;

use crate::{
    import::{
        ImportError, ImportOptions, huggingface, preprocessing,
        source::{Description, Located, description},
        timm,
    },
    model::manifest::TaskKind,
    onnx::vit::Readout,
    preprocess::Preprocess,
};

/// What is said; `None` where nothing is.
#[derive(Debug)]
pub(in crate::import) struct Described {
    /// What the network is called.
    pub(in crate::import) name: Option<String>,
    pub(in crate::import) layers: Option<usize>,
    pub(in crate::import) heads: Option<usize>,
    /// Height and width of the input.
    pub(in crate::import) image: Option<[usize; 2]>,
    /// What the classifier reads.
    pub(in crate::import) readout: Option<Readout>,
    /// How pictures become inputs.
    pub(in crate::import) preprocess: Preprocess,
    /// One a class, in order.
    pub(in crate::import) labels: Option<Vec<String>>,
    pub(in crate::import) task: TaskKind,
    /// SHA-256 by name of the files that were read.
    pub(in crate::import) source_files: BTreeMap<String, String>,
}

impl Described {
    /// Reads `config.json` and what belongs to it; without one, what the command line says.
    ///
    /// # Errors
    /// If a file cannot be read, or nothing tells how pictures become inputs.
    pub(super) fn read(
        located: &Located,
        options: &ImportOptions,
        patch: Option<usize>,
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
            name: None,
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
