//! Attention in blocks of bfloat16: scores, softmax, the heads' matrices as one and the mixed values of
//! 32 queries at a time.
//!
//! Queries, keys, values and probabilities are rounded to bfloat16, sums and softmax are float32. A
//! product of two rounded factors is off by up to 2⁻⁸ of itself, so a score by less than that part
//! of Σ |q·k|; what leaves a block, and with it the logits, differs from the reference's as much as
//! that explains.

use std::arch::x86_64::*;

use super::{fuse_head, softmax, transposed};
use crate::cpu::{
    aligned::Aligned,
    avx512::{
        block::{Bf16Product, Block, RIGHT_STEP, TILE_ROWS},
        tile::first_lanes,
    },
    instructions::{HeadFusion, HeadShape, KeysAndValues},
};

/// Queries of a block, keys or channels of a block of the right factor, and what a step takes of
/// the inner dimension.
const SIDE: usize = 32;

/// Float32 values in the place of a step of the right factor: pairs of bfloat16.
const STEP_LEN: usize = RIGHT_STEP / size_of::<f32>();

/// Room that a head's keys take: by blocks of 32 keys, then steps of 32 channels.
pub(in crate::cpu::avx512) fn keys_len(shape: HeadShape) -> usize {
    shape.tokens.div_ceil(SIDE) * shape.size.div_ceil(SIDE) * STEP_LEN
}

/// Room that a head's values take: by blocks of 32 channels, then steps of 32 tokens.
pub(in crate::cpu::avx512) fn values_len(shape: HeadShape) -> usize {
    keys_len(shape)
}

/// One head's keys and values out of `[token][hidden]` into the right factors of scores and of
/// mixed values, pairs of the inner dimension side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(in crate::cpu::avx512) fn prepare_head(
    shape: HeadShape,
    head: usize,
    KeysAndValues { keys, values }: KeysAndValues<'_>,
    out_keys: &mut [f32],
    out_values: &mut [f32],
) {
    let (hidden, channels) = (shape.hidden(), head * shape.size);
    assert!(keys.len() >= shape.tokens * hidden && values.len() >= shape.tokens * hidden);
    assert!(out_keys.len() >= keys_len(shape) && out_values.len() >= values_len(shape));
    // Of a token's channels from `channel` on, sixteen; those that are not there are zero.
    let load = |rows: &[f32], token: usize, channel: usize| {
        let count = shape.size.saturating_sub(channel);
        let valid = if token < shape.tokens {
            first_lanes(count)
        } else {
            0
        };
        let at = rows
            .as_ptr()
            .wrapping_add(token * hidden + channels + channel);
        // SAFETY: the lanes of the mask lie within the head's channels of a token that is there.
        unsafe { _mm512_maskz_loadu_ps(valid, at) }
    };
    let steps = shape.size.div_ceil(SIDE);
    for first in (0..shape.tokens).step_by(TILE_ROWS) {
        for step in 0..steps {
            let pairs = std::array::from_fn(|token| {
                let [low, high] = [0, 16].map(|at| load(keys, first + token, step * SIDE + at));
                // SAFETY: any bits are a vector.
                unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low)) }
            });
            let block = (first / SIDE * steps + step) * STEP_LEN + first % SIDE;
            for (row, pairs) in transposed(pairs).into_iter().enumerate() {
                let out = &mut out_keys[block + row * SIDE..][..16];
                // SAFETY: the slice has sixteen values.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr(), pairs) };
            }
        }
    }
    let steps = shape.tokens.div_ceil(SIDE);
    for channel in (0..shape.size).step_by(16) {
        for pair in 0..steps * TILE_ROWS {
            let [low, high] = [0, 1].map(|at| {
                let narrow = _mm512_cvtneps_pbh(load(values, 2 * pair + at, channel));
                // SAFETY: any bits are a vector.
                let narrow = unsafe { std::mem::transmute::<__m256bh, __m256i>(narrow) };
                _mm512_cvtepu16_epi32(narrow)
            });
            let pairs = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
            let at = (channel / SIDE * steps + pair / TILE_ROWS) * STEP_LEN;
            let at = at + pair % TILE_ROWS * SIDE + channel % SIDE;
            let out = &mut out_values[at..][..16];
            // SAFETY: the slice has sixteen values.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), pairs) };
        }
    }
}

/// Attention of some queries, `prepared` keys and values of all heads.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
pub(in crate::cpu::avx512) fn attend<P: Bf16Product>(
    unit: &P,
    shape: HeadShape,
    queries: &[f32],
    prepared: KeysAndValues<'_>,
    mixed: &mut [f32],
    mut fused: Option<(&mut [f32], HeadFusion)>,
) {
    let hidden = shape.hidden();
    let count = queries.len() / hidden;
    assert!(queries.len() == count * hidden && mixed.len() == queries.len());
    let mut scratch = Scratch::new(shape);
    for head in 0..shape.heads {
        let keys = &prepared.keys[head * keys_len(shape)..][..keys_len(shape)];
        let values = &prepared.values[head * values_len(shape)..][..values_len(shape)];
        for first in (0..count).step_by(SIDE) {
            let rows = (count - first).min(SIDE);
            let at = first * hidden + head * shape.size;
            scratch.narrow_queries(shape, &queries[at..], rows);
            scratch.scores(unit, shape, keys, rows);
            for row in scratch.scores.chunks_exact_mut(scratch.row).take(rows) {
                softmax(row, shape.tokens);
            }
            if let Some((fused, fusion)) = &mut fused {
                let row = shape.row();
                let fused = fused[first * row..].chunks_exact_mut(row).take(rows);
                let scores = scratch.scores.chunks_exact(scratch.row);
                for (fused, scores) in fused.zip(scores) {
                    fuse_head(*fusion, head, shape.heads, &scores[..row], fused);
                }
            }
            scratch.narrow_probabilities(rows);
            scratch.mix(unit, shape, values, &mut mixed[at..], rows);
        }
    }
}

/// Memory of a block's factors and results.
struct Scratch {
    /// Length of a row of scores: the tokens, filled up to whole blocks.
    row: usize,
    /// `[query][pair of channels]`, bfloat16.
    queries: Aligned<f32>,
    /// `[query][token]`, float32.
    scores: Aligned<f32>,
    /// `[query][pair of tokens]`, bfloat16.
    probabilities: Aligned<f32>,
    /// `[query][channel of a block]`, float32.
    mixed: Aligned<f32>,
}

impl Scratch {
    fn new(shape: HeadShape) -> Self {
        let row = shape.tokens.next_multiple_of(SIDE);
        Self {
            row,
            queries: Aligned::zeroed(SIDE * shape.size.next_multiple_of(SIDE) / 2),
            scores: Aligned::zeroed(SIDE * row),
            probabilities: Aligned::zeroed(SIDE * row / 2),
            mixed: Aligned::zeroed(SIDE * SIDE),
        }
    }

    /// Queries of a head, `hidden` values apart; rows beyond the last keep what was there.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn narrow_queries(&mut self, shape: HeadShape, queries: &[f32], rows: usize) {
        let pairs = shape.size.next_multiple_of(SIDE) / 2;
        for (row, out) in self.queries.chunks_exact_mut(pairs).take(rows).enumerate() {
            let query = &queries[row * shape.hidden()..][..shape.size];
            narrow(query, out);
        }
    }

    /// Probabilities of the first `rows` queries; rows beyond keep what was there.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn narrow_probabilities(&mut self, rows: usize) {
        let scores = self.scores.chunks_exact(self.row).take(rows);
        let out = self.probabilities.chunks_exact_mut(self.row / 2);
        for (scores, out) in scores.zip(out) {
            narrow(scores, out);
        }
    }

    fn scores<P: Bf16Product>(&mut self, unit: &P, shape: HeadShape, keys: &[f32], rows: usize) {
        let steps = shape.size.div_ceil(SIDE);
        for block in 0..self.row / SIDE {
            let right = &keys[block * steps * STEP_LEN..][..steps * STEP_LEN];
            let sums = &mut self.scores[block * SIDE..];
            // SAFETY: the queries have 32 rows of whole steps, the keys the steps of a block, and
            // the scores 32 rows of 32 more values each.
            unsafe {
                unit.multiply_bf16(Block {
                    left: self.queries.as_ptr().cast(),
                    left_stride: steps * SIDE * 2,
                    rows,
                    right: right.as_ptr().cast(),
                    steps,
                    sums: sums.as_mut_ptr().cast(),
                    sums_stride: self.row * size_of::<f32>(),
                });
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn mix<P: Bf16Product>(
        &mut self,
        unit: &P,
        shape: HeadShape,
        values: &[f32],
        mixed: &mut [f32],
        rows: usize,
    ) {
        let steps = self.row / SIDE;
        for (block, right) in values.chunks_exact(steps * STEP_LEN).enumerate() {
            // SAFETY: the probabilities have 32 rows of whole steps, the values the steps of a
            // block, and there is room for 32 rows of 32 values.
            unsafe {
                unit.multiply_bf16(Block {
                    left: self.probabilities.as_ptr().cast(),
                    left_stride: self.row * 2,
                    rows,
                    right: right.as_ptr().cast(),
                    steps,
                    sums: self.mixed.as_mut_ptr().cast(),
                    sums_stride: SIDE * size_of::<f32>(),
                });
            }
            let channels = (shape.size - block * SIDE).min(SIDE);
            for (row, sums) in self.mixed.chunks_exact(SIDE).take(rows).enumerate() {
                let at = row * shape.hidden() + block * SIDE;
                mixed[at..at + channels].copy_from_slice(&sums[..channels]);
            }
        }
    }
}

/// Values as pairs of bfloat16; pairs without values are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn narrow(values: &[f32], out: &mut [f32]) {
    for (pairs, out) in out.chunks_exact_mut(16).enumerate() {
        let [low, high] = [0, 16].map(|at| {
            let first = (pairs * SIDE + at).min(values.len());
            let valid = first_lanes(values.len() - first);
            // SAFETY: the lanes of the mask lie within the values.
            unsafe { _mm512_maskz_loadu_ps(valid, values.as_ptr().add(first)) }
        });
        // SAFETY: any bits are a vector, and the slice has sixteen values.
        unsafe {
            let pairs = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_ps(out.as_mut_ptr(), pairs);
        }
    }
}
