//! The `.npz` files of the ViT's authors: `vision_transformer` (original and AugReg) and
//! `big_vision`.

mod layout;
mod stacked;

use std::path::Path;

use patchlight_imaging::preprocess::{Backend, Filter, Normalize, Preprocess, Resize};
use patchlight_model::manifest::TaskKind;
use patchlight_onnx::vit::{Activation, BlockWeight as B, VitSpec, WeightId};

use self::{layout::JaxLayout, stacked::Unstacked};
use super::{
    Checkpoint, ImportError, ImportOptions,
    layout::{Hyperparameters, Layout, ParsedCheckpoint, Sizes, check_names, square_grid},
    paths::CheckpointPaths,
    preprocessing,
    tensor_file::{self, TensorFile},
};

/// Opens the file and checks that everything is there and understood; values are read later.
pub(super) fn open(
    path: &Path,
    paths: &CheckpointPaths,
    options: &ImportOptions,
) -> Result<Checkpoint, ImportError> {
    let file = tensor_file::open(path)?;
    let file = match layout::root(file.as_ref()) {
        Some(_) => file,
        None => tensor_file::by_anchor(file, layout::ANCHOR)?,
    };
    let file = Unstacked::unstack(file);
    let layout = JaxLayout::new(file.as_ref())?;
    let sizes = Sizes::read(file.as_ref(), &layout)?;
    let grid = square_grid(file.as_ref(), layout.positions(), sizes.patches)?;
    let spec = sizes.spec(Hyperparameters {
        heads: heads(file.as_ref(), &layout)?,
        image: grid.map(|side| side * sizes.patch),
        // flax's own: nn.gelu is the tanh approximation, LayerNorm's epsilon is 1e-6.
        norm_epsilon: 1e-6,
        activation: Activation::GeluTanh,
        pooling: layout.pooling(),
        head_fusion: options.head_fusion,
    });
    check_names(file.as_ref(), &layout, &spec)?;
    let (preprocess, source_files) =
        preprocessing::of(paths, options, || Ok((own_preprocessing(&spec), None)))?;
    ParsedCheckpoint {
        file,
        layout,
        spec,
        preprocess,
        labels: None,
        task: TaskKind::SingleLabel,
        source: "jax",
        source_files,
    }
    .checkpoint(options)
}

/// Heads have an axis of their own.
fn heads(file: &dyn TensorFile, layout: &JaxLayout) -> Result<usize, ImportError> {
    let query = layout.source(WeightId::Block(0, B::QueryKernel));
    match file.shape(query.name()) {
        Some(&[_, heads, _]) if heads > 0 => Ok(heads),
        shape => {
            let detail = format!("has the shape {shape:?}; [hidden, heads, head size] is expected");
            Err(ImportError::tensor(file.path(), query.name(), detail))
        }
    }
}

/// Resized to the network's size whatever the aspect, and values from −1 to 1. The authors resize
/// with TensorFlow's bilinear filter, which takes no account of how much smaller an image becomes;
/// as other servers of these weights do, Pillow's filter is taken, which does.
fn own_preprocessing(spec: &VitSpec) -> Preprocess {
    let [height, width] = spec.image.map(|side| side as u32);
    Preprocess {
        resize: Resize::Squash { height, width },
        filter: Filter::Bilinear,
        backend: Backend::Pillow,
        crop: None,
        normalize: Normalize {
            scale: 1.0 / 255.0,
            mean: [0.5; 3],
            std: [0.5; 3],
            bgr: false,
        },
    }
}
