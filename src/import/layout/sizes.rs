//! The size of a network, read off the shapes of its tensors.

use super::{Layout, Place};
use crate::{
    import::{ImportError, tensor_file::TensorFile},
    model::manifest::HeadFusion,
    onnx::vit::{Activation, BlockRole as B, Readout, Role, VitSpec},
};

/// What the shapes tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::import) struct Sizes {
    pub(in crate::import) layers: usize,
    pub(in crate::import) hidden: usize,
    pub(in crate::import) mlp: usize,
    pub(in crate::import) patch: usize,
    pub(in crate::import) classes: usize,
    pub(in crate::import) prefix: usize,
    /// Position embeddings of patches.
    pub(in crate::import) patches: usize,
    pub(in crate::import) pre_norm: bool,
    pub(in crate::import) qkv_bias: bool,
}

impl Sizes {
    /// Reads them; that tensors agree with each other is checked when they are read.
    pub(in crate::import) fn read<L: Layout>(
        file: &dyn TensorFile,
        layout: &L,
    ) -> Result<Self, ImportError> {
        let patch_kernel = layout.place(Role::PatchKernel);
        let (hidden, channels, patch, patch_width) =
            match (&patch_kernel, shape::<4>(file, patch_kernel.name())?) {
                (Place::Flax(_), [row, column, channel, out]) => (out, channel, row, column),
                (_, [out, channel, row, column]) => (out, channel, row, column),
            };
        let fail = |name: &str, detail: &str| Err(ImportError::tensor(file.path(), name, detail));
        if channels != 3 {
            return fail(
                patch_kernel.name(),
                "does not take 3 channels, which pictures have here",
            );
        }
        if patch != patch_width || patch == 0 {
            return fail(patch_kernel.name(), "has patches that are not square");
        }
        let has = |role| file.shape(layout.place(role).name()).is_some();
        let layers = (0..)
            .take_while(|&layer| has(Role::Block(layer, B::AttentionNormScale)))
            .count();
        if layers == 0 {
            let first = layout.place(Role::Block(0, B::AttentionNormScale));
            return Err(file.missing(first.name(), "without it there is no transformer block"));
        }
        let up = layout.place(Role::Block(0, B::UpKernel));
        let mlp = match (&up, shape::<2>(file, up.name())?) {
            (Place::Flax(_), [_, out]) => out,
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
            (Place::Flax(_), [_, classes]) | (_, [classes, _]) => classes,
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
            pre_norm: has(Role::PreNormScale),
            qkv_bias: has(Role::Block(0, B::QueryBias)),
        })
    }
}

/// What shapes do not tell.
pub(in crate::import) struct Unshaped {
    pub(in crate::import) heads: usize,
    /// Height and width of the picture in pixels.
    pub(in crate::import) image: [usize; 2],
    pub(in crate::import) norm_epsilon: f32,
    pub(in crate::import) activation: Activation,
    pub(in crate::import) readout: Readout,
    pub(in crate::import) head_fusion: HeadFusion,
}

impl Sizes {
    /// The whole network.
    pub(in crate::import) fn spec(&self, unshaped: Unshaped) -> VitSpec {
        let Unshaped {
            heads,
            image,
            norm_epsilon,
            activation,
            readout,
            head_fusion,
        } = unshaped;
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
            readout,
            head_fusion,
        }
    }
}

/// The sides of a square of so many patches.
pub(in crate::import) fn square_grid(
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
