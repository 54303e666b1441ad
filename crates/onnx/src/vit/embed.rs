//! From pixels to tokens.

use super::{Builder, PIXEL_VALUES, WeightId, Weights, norm::Place};
use crate::{
    graph::{Attribute, Dim, Value, as_i64},
    tensor::{DType, Tensor},
};

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// Pixels → `[batch·tokens, hidden]`: each patch projected, the prefix tokens put before
    /// them, positions added; and normalised, where the network does so.
    ///
    /// The prefix is the same for every image. So zeros are put in front of the patches, and one
    /// constant, which holds the prefix tokens and the patches' positions, is added to all.
    pub(super) fn embed(&mut self) -> Result<Value, W::Error> {
        let spec = self.spec;
        let [height, width] = spec.image;
        let shape = [Dim::named("batch"), 3.into(), height.into(), width.into()];
        let pixels = self.graph.input(PIXEL_VALUES, DType::F32, &shape);
        let pixels = self.cast_to_block_dtype(PIXEL_VALUES, &pixels);

        // Convolutions want [out, in, row, column].
        let kernel = self.weights.tensor(WeightId::PatchKernel)?.transposed();
        let kernel = kernel.reshaped(vec![spec.hidden, 3, spec.patch, spec.patch]);
        let kernel = self.block_tensor("embed/patch.kernel", kernel)?;
        let bias = self.block_weight(WeightId::PatchBias, "embed/patch.bias")?;
        let side = as_i64(spec.patch);
        let attributes = [
            ("kernel_shape", Attribute::Ints(&[side, side])),
            ("strides", Attribute::Ints(&[side, side])),
        ];
        let graph = &mut self.graph;
        let patches = graph.node(
            "Conv",
            "embed/patch",
            &[&pixels, &kernel, &bias],
            &attributes,
        );
        let hidden = as_i64(spec.hidden);
        let patches = graph.reshape("embed/flat", &patches, &[0, hidden, -1]);
        let patches = graph.transpose("embed/patches", &patches, &[0, 2, 1]);

        let table = [
            self.weights.tensor(WeightId::Prefix)?,
            self.weights.tensor(WeightId::Positions)?,
        ];
        let table = table.iter().flat_map(Tensor::to_f32).collect::<Vec<_>>();
        let table = Tensor::f32(vec![1, spec.tokens(), spec.hidden], &table);
        let table = self.block_tensor("embed/prefix_and_positions", table)?;
        let graph = &mut self.graph;
        let tokens = match spec.prefix {
            0 => patches,
            prefix => graph.pad_front("embed/padded", &patches, 3, 1, prefix),
        };
        let tokens = graph.add("embed/tokens", &tokens, &table);
        let tokens = graph.reshape("embed", &tokens, &[-1, hidden]);
        if !spec.pre_norm {
            return Ok(tokens);
        }
        let scale = self.block_weight(WeightId::PreNormScale, "embed/norm.scale")?;
        let bias = self.block_weight(WeightId::PreNormBias, "embed/norm.bias")?;
        Ok(self.normalized(Place::Block, "embed/norm", &tokens, [&scale, &bias]))
    }
}
