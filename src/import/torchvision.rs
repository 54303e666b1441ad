//! A state dict of torchvision's `VisionTransformer`: one file, which tells neither heads nor
//! preprocessing nor labels.

mod names;
mod presets;

use self::names::Names;
pub(super) use self::presets::preset;
use super::{
    Checkpoint, ImportError, ImportOptions,
    layout::{Sizes, Understood, Unshaped, check_names, square_grid},
    preprocessing,
    source::Located,
    tensor_file::{self, TensorFile},
};
use crate::{
    model::manifest::TaskKind,
    onnx::vit::{Activation, Readout},
};

/// A tensor by which the layout is known.
pub(super) const MARK: &str = "conv_proj.weight";

/// Checks that everything is there and understood; tensors' values are read later.
pub(super) fn open(
    file: Box<dyn TensorFile>,
    located: &Located,
    options: &ImportOptions,
) -> Result<Checkpoint, ImportError> {
    let file = tensor_file::by_anchor(file, MARK)?;
    let layout = Names::new(file.as_ref());
    let sizes = Sizes::read(file.as_ref(), &layout)?;
    let grid = square_grid(file.as_ref(), names::POSITIONS, sizes.patches)?;
    let spec = sizes.spec(Unshaped {
        heads: heads(file.as_ref(), options.heads, sizes.hidden)?,
        image: grid.map(|side| side * sizes.patch),
        norm_epsilon: 1e-6,
        activation: Activation::Gelu,
        readout: Readout::ClassToken,
        head_fusion: options.head_fusion,
    });
    check_names(file.as_ref(), &layout, &spec)?;
    let (preprocess, source_files) = preprocessing::of(located, options, || {
        let name = presets::of_stock_model(file.path(), &spec).map_err(ImportError::Preprocess)?;
        Ok((preset(name)?, None))
    })?;
    Understood {
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
    let fail = |detail| Err(ImportError::tensor(file.path(), MARK, detail));
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
