//! Memory of a pass, of one image or of several together, kept for the next.

use super::Block;
use crate::cpu::{
    aligned::{Aligned, LINE},
    rounding::QuantizedTokens,
    shape::EncoderShape,
    weights::Linear,
};

/// Values on the way through a block, rows of tokens, image after image.
#[derive(Debug)]
pub(super) struct Workspace {
    /// For so many images.
    pub(super) images: usize,
    /// The residual stream, `[token][hidden]`.
    pub(super) tokens: Aligned<f32>,
    pub(super) queries: Aligned<f32>,
    pub(super) keys: Aligned<f32>,
    pub(super) values: Aligned<f32>,
    /// Keys and values, prepared: `[image][head]`.
    pub(super) prepared: [Aligned<f32>; 2],
    /// What attention read.
    pub(super) mixed: Aligned<f32>,
    /// Normalised tokens, where a layer of float32 reads them; empty elsewhere.
    pub(super) normalized: Aligned<f32>,
    /// The MLP's hidden layer, `[token][mlp]`; patches before the first block.
    pub(super) activations: Aligned<f32>,
    /// Values from one of its rows to the next: rows a power of two apart would share the same few
    /// sets of the caches.
    pub(super) activation_stride: usize,
    pub(super) quantized: QuantizedTokens,
    /// Attention matrices, heads fused, `[image][layer][token][row of tokens]`; empty until maps
    /// are wanted.
    pub(super) fused: Aligned<f32>,
}

impl Workspace {
    /// For so many images; `prepared` is the room that a head's prepared keys and values need.
    pub(super) fn new(
        images: usize,
        shape: &EncoderShape,
        blocks: &[Block],
        prepared: [usize; 2],
    ) -> Self {
        let (tokens, hidden) = (images * shape.tokens(), shape.hidden);
        // What reads float32 reads rows without gaps.
        let activation_stride = match blocks.iter().all(|block| block.down.rounding().is_some()) {
            true => shape.mlp + LINE / size_of::<f32>(),
            false => shape.mlp,
        };
        let stream = || Aligned::zeroed(tokens * hidden);
        let reads_float = |block: &Block| {
            [&block.queries, &block.up]
                .iter()
                .any(|layer| layer.rounding().is_none())
        };
        let rounded = blocks.iter().flat_map(Block::layers);
        let rounded = rounded.filter_map(Linear::rounded_input);
        let patches = tokens * 3 * shape.patch * shape.patch;
        Self {
            images,
            tokens: stream(),
            queries: stream(),
            keys: stream(),
            values: stream(),
            prepared: prepared.map(|of_head| Aligned::zeroed(images * shape.heads * of_head)),
            mixed: stream(),
            normalized: match blocks.iter().any(reads_float) {
                true => stream(),
                false => Aligned::zeroed(0),
            },
            activations: Aligned::zeroed(patches.max(tokens * activation_stride)),
            activation_stride,
            quantized: QuantizedTokens::new(tokens, rounded.max().unwrap_or(0)),
            fused: Aligned::zeroed(0),
        }
    }

    pub(super) fn reserve_maps(&mut self, shape: &EncoderShape) {
        if self.fused.is_empty() {
            let matrix = shape.tokens() * shape.head_shape().row();
            self.fused = Aligned::zeroed(self.images * shape.layers * matrix);
        }
    }
}
