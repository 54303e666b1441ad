//! A state dict of torchvision's `VisionTransformer`: one file, which tells neither heads nor
//! preprocessing nor labels.

mod layout;

use patchlight_model::manifest::TaskKind;
use patchlight_onnx::vit::{Activation, Pooling};

use self::layout::TorchvisionLayout;
use super::{
    Checkpoint, ImportError, ImportOptions,
    layout::{Hyperparameters, ParsedCheckpoint, Sizes, check_names, square_grid},
    paths::CheckpointPaths,
    preprocessing::{self, presets},
    tensor_file::{self, TensorFile},
};

/// A tensor by which the layout is known.
pub(super) const MARKER_TENSOR: &str = "conv_proj.weight";

/// Checks that everything is there and understood; tensors' values are read later.
pub(super) fn open(
    file: Box<dyn TensorFile>,
    paths: &CheckpointPaths,
    options: &ImportOptions,
) -> Result<Checkpoint, ImportError> {
    let file = tensor_file::by_anchor(file, MARKER_TENSOR)?;
    let layout = TorchvisionLayout::new(file.as_ref());
    let sizes = Sizes::read(file.as_ref(), &layout)?;
    let grid = square_grid(file.as_ref(), layout::POSITIONS, sizes.patches)?;
    let spec = sizes.spec(Hyperparameters {
        heads: heads(file.as_ref(), options.heads, sizes.hidden)?,
        image: grid.map(|side| side * sizes.patch),
        norm_epsilon: 1e-6,
        activation: Activation::Gelu,
        pooling: Pooling::ClassToken,
        head_fusion: options.head_fusion,
    });
    check_names(file.as_ref(), &layout, &spec)?;
    let (preprocess, source_files) = preprocessing::of(paths, options, || {
        let name = presets::of_stock_model(file.path(), &spec).map_err(ImportError::Preprocess)?;
        Ok((presets::preset(name)?, None))
    })?;
    ParsedCheckpoint {
        file,
        layout,
        spec,
        preprocess,
        labels: None,
        task: TaskKind::SingleLabel,
        source: "torchvision",
        source_files,
    }
    .checkpoint(options)
}

/// Attention heads: from the command line, or of the stock model of this width.
fn heads(file: &dyn TensorFile, given: Option<usize>, hidden: usize) -> Result<usize, ImportError> {
    let fail = |detail| Err(ImportError::tensor(file.path(), MARKER_TENSOR, detail));
    match (given, hidden) {
        (Some(heads), _) if heads > 0 && hidden.is_multiple_of(heads) => Ok(heads),
        (Some(heads), _) => fail(format!(
            "tells of a width of {hidden}, which --heads {heads} does not divide"
        )),
        (None, 768) => Ok(12),
        (None, 1024 | 1280) => Ok(16),
        (None, _) => fail(format!(
            "tells of a width of {hidden}, which no stock model has, and no tensor tells the \
             number of attention heads; give it with --heads N"
        )),
    }
}
