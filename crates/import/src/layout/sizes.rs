//! The size of a network, read off the shapes of its tensors.

use patchlight_model::manifest::HeadFusion;
use patchlight_onnx::vit::{Activation, BlockWeight as B, Pooling, Variant, VitSpec, WeightId};

use super::{Layout, TensorSource};
use crate::{ImportError, tensor_file::TensorFile};

/// The network's sizes, as the tensors' shapes show them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) mlp: usize,
    pub(crate) patch: usize,
    pub(crate) classes: usize,
    pub(crate) prefix: usize,
    /// Position embeddings of patches.
    pub(crate) patches: usize,
    pub(crate) pre_norm: bool,
    pub(crate) qkv_bias: bool,
}

impl Sizes {
    /// Reads them; that tensors agree with each other is checked when they are read.
    pub(crate) fn read<L: Layout>(file: &dyn TensorFile, layout: &L) -> Result<Self, ImportError> {
        let patch_kernel = layout.source(WeightId::PatchKernel);
        let (hidden, channels, patch, patch_width) =
            match (&patch_kernel, shape::<4>(file, patch_kernel.name())?) {
                (TensorSource::Flax(_), [row, column, channel, out]) => (out, channel, row, column),
                (_, [out, channel, row, column]) => (out, channel, row, column),
            };
        let fail = |name: &str, detail: &str| Err(ImportError::tensor(file.path(), name, detail));
        if channels != 3 {
            return fail(
                patch_kernel.name(),
                "does not take 3 channels, which images have here",
            );
        }
        if patch != patch_width || patch == 0 {
            return fail(patch_kernel.name(), "has patches that are not square");
        }
        let has = |weight| file.shape(layout.source(weight).name()).is_some();
        let layers = (0..)
            .take_while(|&layer| has(WeightId::Block(layer, B::AttentionNormScale)))
            .count();
        if layers == 0 {
            let first = layout.source(WeightId::Block(0, B::AttentionNormScale));
            return Err(file.missing(first.name(), "without it there is no transformer block"));
        }
        let up = layout.source(WeightId::Block(0, B::UpKernel));
        let mlp = match (&up, shape::<2>(file, up.name())?) {
            (TensorSource::Flax(_), [_, out]) => out,
            (_, [out, _]) => out,
        };
        let classifiers = layout.classifiers();
        let head = classifiers[0][0];
        if file.shape(head).is_none() {
            let expected =
                "the checkpoint has no classifier; import one that was trained to classify";
            return Err(file.missing(head, expected));
        }
        let classes = match (&patch_kernel, shape::<2>(file, head)?) {
            (TensorSource::Flax(_), [_, classes]) | (_, [classes, _]) => classes,
        };
        if classes == 0 {
            return fail(head, "has no class");
        }
        let mut prefix = 0;
        for name in layout.prefix() {
            prefix += shape::<3>(file, name)?[1];
        }
        let [_, positions, _] = shape::<3>(file, layout.positions())?;
        let of_prefix = match layout.prefix_has_positions() {
            true => prefix,
            false => 0,
        };
        let Some(patches) = positions.checked_sub(of_prefix).filter(|&n| n > 0) else {
            return fail(layout.positions(), "has no position for any patch");
        };
        Ok(Self {
            layers,
            hidden,
            mlp,
            patch,
            classes,
            prefix,
            patches,
            pre_norm: has(WeightId::PreNormScale),
            qkv_bias: has(WeightId::Block(0, B::QueryBias)),
        })
    }
}

/// The hyperparameters that no tensor's shape shows.
pub(crate) struct Hyperparameters {
    pub(crate) heads: usize,
    /// Height and width of the image in pixels.
    pub(crate) image: [usize; 2],
    pub(crate) norm_epsilon: f32,
    pub(crate) activation: Activation,
    pub(crate) pooling: Pooling,
    pub(crate) head_fusion: HeadFusion,
}

impl Sizes {
    /// The whole network.
    pub(crate) fn spec(&self, hyperparameters: Hyperparameters) -> VitSpec {
        let Hyperparameters {
            heads,
            image,
            norm_epsilon,
            activation,
            pooling,
            head_fusion,
        } = hyperparameters;
        VitSpec {
            layers: self.layers,
            heads,
            hidden: self.hidden,
            mlp: self.mlp,
            image,
            patch: self.patch,
            prefix: self.prefix,
            classes: self.classes,
            norm_epsilon,
            activation,
            pre_norm: self.pre_norm,
            qkv_bias: self.qkv_bias,
            pooling,
            head_fusion,
            variant: Variant::default(),
        }
    }
}

/// The sides of a square of so many patches.
pub(crate) fn square_grid(
    file: &dyn TensorFile,
    positions: &str,
    patches: usize,
) -> Result<[usize; 2], ImportError> {
    let side = patches.isqrt();
    if side * side != patches {
        let detail = format!(
            "has positions for {patches} patches, which are no square, and the file does not tell the grid's sides"
        );
        return Err(ImportError::tensor(file.path(), positions, detail));
    }
    Ok([side, side])
}

/// The shape of a tensor with so many axes.
fn shape<const RANK: usize>(
    file: &dyn TensorFile,
    name: &str,
) -> Result<[usize; RANK], ImportError> {
    match file.shape(name) {
        Some(shape) => shape.try_into().map_err(|_| {
            let detail = format!("has the shape {shape:?}; {RANK} axes are expected");
            ImportError::tensor(file.path(), name, detail)
        }),
        None => Err(file.missing(name, format_args!("a tensor with {RANK} axes is expected"))),
    }
}
