//! Memory of one image's pass, kept for the next.

use super::Block;
use crate::cpu::{aligned::Aligned, instructions::QuantizedTokens, shape::EncoderShape};

/// Values on the way through a block, rows of tokens.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The residual stream, `[token][hidden]`.
    pub(super) tokens: Aligned<f32>,
    pub(super) queries: Aligned<f32>,
    pub(super) keys: Aligned<f32>,
    pub(super) values: Aligned<f32>,
    /// `[head][channel][row of tokens]`.
    pub(super) keys_by_head: Aligned<f32>,
    /// What attention read.
    pub(super) mixed: Aligned<f32>,
    /// Normalised tokens, where a layer of float32 reads them; empty elsewhere.
    pub(super) normalized: Aligned<f32>,
    /// The MLP's hidden layer, `[token][mlp]`; patches before the first block.
    pub(super) activations: Aligned<f32>,
    pub(super) quantized: QuantizedTokens,
    /// Attention matrices, heads fused, `[layer][token][row of tokens]`; empty until maps are
    /// wanted.
    pub(super) fused: Aligned<f32>,
}

impl Workspace {
    pub(super) fn new(shape: &EncoderShape, blocks: &[Block]) -> Self {
        let (tokens, hidden) = (shape.tokens(), shape.hidden);
        let stream = || Aligned::zeroed(tokens * hidden);
        let reads_float = |block: &Block| !(block.queries.is_int8() && block.up.is_int8());
        let patches = tokens * 3 * shape.patch * shape.patch;
        Self {
            tokens: stream(),
            queries: stream(),
            keys: stream(),
            values: stream(),
            keys_by_head: Aligned::zeroed(hidden * shape.head_shape().row()),
            mixed: stream(),
            normalized: match blocks.iter().any(reads_float) {
                true => stream(),
                false => Aligned::zeroed(0),
            },
            activations: Aligned::zeroed(patches.max(tokens * shape.mlp)),
            quantized: QuantizedTokens::new(tokens, hidden.max(shape.mlp)),
            fused: Aligned::zeroed(0),
        }
    }

    pub(super) fn reserve_maps(&mut self, shape: &EncoderShape) {
        if self.fused.is_empty() {
            let matrix = shape.tokens() * shape.head_shape().row();
            self.fused = Aligned::zeroed(shape.layers * matrix);
        }
    }
}
