//! The steps between products, on one thread or several, some rows each.

use half::bf16;

use super::{Encoder, for_each_part, lengths, split_rows};
use crate::cpu::{
    instructions::{HeadShape, KeysAndValues, Operand},
    rounding::QuantizedMut,
    weights::{Linear, Norm, ZERO_POINT},
};

/// Where a part prepares what a layer reads.
pub(super) struct Scratch<'a> {
    quantized: QuantizedMut<'a>,
    normalized: &'a mut [f32],
}

impl<'a> Scratch<'a> {
    pub(super) fn new((normalized, quantized): (&'a mut [f32], QuantizedMut<'a>)) -> Self {
        Self {
            quantized,
            normalized,
        }
    }
}

impl Encoder {
    /// Attention of one image's queries on so many threads, some of them each; `keys_and_values`
    /// are those prepared, and those that they were prepared from.
    pub(super) fn attend(
        &self,
        queries: &[f32],
        keys_and_values: [KeysAndValues<'_>; 2],
        mixed: &mut [f32],
        fused: Option<&mut [f32]>,
        threads: usize,
    ) {
        let (heads, hidden) = (self.shape.head_shape(), self.shape.hidden);
        let count = queries.len() / hidden;
        let lengths = lengths(count, threads.min(count));
        let fused: Vec<_> = match fused {
            None => lengths.clone().map(|_| None).collect(),
            Some(fused) => {
                let fused = split_rows(fused, heads.row(), lengths.clone());
                fused.into_iter().map(Some).collect()
            }
        };
        let mixed = split_rows(mixed, hidden, lengths.clone());
        let queries = split_ranges(queries, hidden, lengths);
        let parts = queries.zip(mixed).zip(fused).collect();
        for_each_part(parts, |((queries, mixed), fused)| {
            let fused = fused.map(|fused| (fused, self.shape.head_fusion));
            let [prepared, of_image] = keys_and_values;
            self.instructions
                .attend(heads, queries, prepared, of_image, mixed, fused);
        });
    }

    /// Normalised rows, as a layer reads them; on so many threads, some of them each.
    pub(super) fn normalized<'s>(
        &self,
        rows: &[f32],
        norm: &Norm,
        layer: &Linear,
        scratch: &'s mut Scratch<'_>,
        threads: usize,
    ) -> Operand<'s> {
        let (epsilon, width) = (self.shape.norm_epsilon, self.shape.hidden);
        let count = rows.len() / width;
        let lengths = lengths(count, threads.min(count));
        let parts = split_ranges(rows, width, lengths.clone());
        match layer.rounding() {
            Some(rounding) => {
                let quantized = scratch.quantized.reborrow().split(lengths);
                let parts = parts.zip(quantized).collect();
                for_each_part(parts, |(rows, mut quantized)| {
                    let (instructions, out) = (&self.instructions, &mut quantized);
                    instructions.normalize_and_quantize(rows, norm, epsilon, rounding, out);
                });
                Operand::rounded(rounding, scratch.quantized.view())
            }
            None => {
                let normalized = split_rows(scratch.normalized, width, lengths);
                let parts = parts.zip(normalized).collect();
                for_each_part(parts, |(rows, normalized)| {
                    self.instructions.normalize(rows, norm, epsilon, normalized);
                });
                Operand::Float32(scratch.normalized)
            }
        }
    }

    /// Rows `stride` values apart, as a layer reads them; on so many threads, some of them each. In
    /// float32 they are without gaps.
    pub(super) fn quantized<'s>(
        &self,
        rows: &'s [f32],
        stride: usize,
        layer: &Linear,
        scratch: &'s mut Scratch<'_>,
        threads: usize,
    ) -> Operand<'s> {
        match layer.rounding() {
            Some(rounding) => {
                let count = rows.len() / stride;
                let lengths = lengths(count, threads.min(count));
                let quantized = scratch.quantized.reborrow().split(lengths.clone());
                let parts = split_ranges(rows, stride, lengths).zip(quantized).collect();
                for_each_part(parts, |(rows, mut quantized)| {
                    let (instructions, width) = (&self.instructions, layer.inputs);
                    instructions.quantize(rows, width, stride, rounding, &mut quantized);
                });
                Operand::rounded(rounding, scratch.quantized.view())
            }
            None => Operand::Float32(rows),
        }
    }
}

/// Rows without gaps, taken apart into ranges of these lengths, to be read.
fn split_ranges(
    mut rows: &[f32],
    width: usize,
    lengths: impl Iterator<Item = usize>,
) -> impl Iterator<Item = &[f32]> {
    lengths.map(move |length| {
        let (first, rest) = rows.split_at(length * width);
        rows = rest;
        first
    })
}

/// What a query read of all tokens, `[head][token][head size]` summed to `[head][head size]`.
pub(super) fn sum_by_head(shape: HeadShape, weighted_values: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; shape.hidden()];
    let of_heads = weighted_values.chunks_exact(shape.tokens * shape.size);
    for (sums, of_head) in sums.chunks_exact_mut(shape.size).zip(of_heads) {
        for values in of_head.chunks_exact(shape.size) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
    }
    sums
}

/// What rounding a row changed, attention's included: `values` are what attribution takes it for.
/// Nothing where it was not rounded.
pub(super) fn write_rounding_error(
    input: Operand<'_>,
    row: usize,
    values: &[f32],
    error: &mut [f32],
) {
    match input {
        Operand::Float32(_) => error.fill(0.0),
        Operand::Int8(quantized) => {
            let bytes = quantized.bytes[row * quantized.stride..].iter().zip(values);
            for (error, (&byte, value)) in error.iter_mut().zip(bytes) {
                let integer = (i32::from(byte) - ZERO_POINT) as f32;
                *error = integer * quantized.scale[row] - value;
            }
        }
        Operand::Bf16(quantized) => {
            let rounded = quantized.bytes[row * quantized.stride..].as_chunks().0;
            for (error, (bytes, value)) in error.iter_mut().zip(rounded.iter().zip(values)) {
                *error = bf16::from_le_bytes(*bytes).to_f32() - value;
            }
        }
    }
}
