//! From a parsed source to a checkpoint.

use std::collections::BTreeMap;

use patchlight_imaging::preprocess::Preprocess;
use patchlight_model::manifest::TaskKind;
use patchlight_onnx::vit::VitSpec;

use super::{Layout, LayoutWeights, parameters};
use crate::{Checkpoint, ImportError, ImportOptions, input_size, tensor_file::TensorFile};

/// A parsed source; the rest of the import is the same for every layout.
pub(crate) struct ParsedCheckpoint<L> {
    pub(crate) file: Box<dyn TensorFile>,
    pub(crate) layout: L,
    /// The network as the file holds it.
    pub(crate) spec: VitSpec,
    pub(crate) preprocess: Preprocess,
    /// One a class, in order; `None` if the source has none.
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) task: TaskKind,
    /// Name of the layout.
    pub(crate) source: &'static str,
    /// SHA-256 by name of the files that were read besides the weights.
    pub(crate) source_files: BTreeMap<String, String>,
}

impl<L: Layout + 'static> ParsedCheckpoint<L> {
    /// Applies what the command line asks for beside the source.
    ///
    /// # Errors
    /// If the size that is asked for does not fit, or the weights cannot be read.
    pub(crate) fn checkpoint(self, options: &ImportOptions) -> Result<Checkpoint, ImportError> {
        let Self {
            file,
            layout,
            mut source_files,
            ..
        } = self;
        source_files.extend(file.digests()?);
        let (stored, preprocess, spec) = input_size::at_size(options, self.spec, self.preprocess)?;
        Ok(Checkpoint {
            labels: self.labels,
            task: self.task,
            stripped: file.stripped().cloned(),
            parameters: parameters(file.as_ref(), &layout),
            weights: Box::new(LayoutWeights {
                file,
                layout,
                spec: spec.clone(),
                stored_grid: stored.grid(),
            }),
            spec,
            caution: None,
            preprocess,
            source: self.source,
            source_files,
        })
    }
}
