//! From what a layout found to a checkpoint.

use std::collections::BTreeMap;

use super::{Layout, LayoutWeights, parameters};
use crate::{
    import::{Checkpoint, ImportError, ImportOptions, preprocessing, tensor_file::TensorFile},
    model::manifest::TaskKind,
    onnx::vit::VitSpec,
    preprocess::Preprocess,
};

/// A checkpoint that was understood; what follows is the same for every layout.
pub(in crate::import) struct Understood<L> {
    pub(in crate::import) file: Box<dyn TensorFile>,
    pub(in crate::import) layout: L,
    /// The network as the file holds it.
    pub(in crate::import) spec: VitSpec,
    pub(in crate::import) preprocess: Preprocess,
    /// One a class, in order; `None` if the source has none.
    pub(in crate::import) labels: Option<Vec<String>>,
    pub(in crate::import) task: TaskKind,
    /// Name of the layout.
    pub(in crate::import) source: &'static str,
    /// SHA-256 by name of the files that were read besides the weights.
    pub(in crate::import) source_files: BTreeMap<String, String>,
}

impl<L: Layout + 'static> Understood<L> {
    /// Applies what the command line asks for beside the source.
    ///
    /// # Errors
    /// If the size that is asked for does not fit, or the weights cannot be read.
    pub(in crate::import) fn checkpoint(
        self,
        options: &ImportOptions,
    ) -> Result<Checkpoint, ImportError> {
        let Self {
            file,
            layout,
            mut source_files,
            ..
        } = self;
        source_files.extend(file.digests()?);
        let (stored, preprocess, spec) =
            preprocessing::at_size(options, self.spec, self.preprocess)?;
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
