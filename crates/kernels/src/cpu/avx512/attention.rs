//! Attention in float32: scores, softmax, the heads' matrices as one and the mixed values of a few
//! queries at a time, while all of it is in the first cache.

pub(super) mod bf16;

use std::arch::x86_64::*;

use super::{
    math::{exp, sum_of_lanes},
    tile::{ROWS, first_lanes, tiles},
};
use crate::cpu::{
    aligned::Aligned,
    instructions::{HeadFusion, HeadShape, KeysAndValues},
};

/// One head's keys out of `[token][hidden]` into `[channel][row of tokens]`.
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_keys(shape: HeadShape, head: usize, keys: &[f32], out: &mut [f32]) {
    let (row, hidden) = (shape.row(), shape.hidden());
    assert!(keys.len() >= shape.tokens * hidden && out.len() >= shape.size * row);
    for first in (0..row).step_by(16) {
        let tokens = shape.tokens.saturating_sub(first).min(16);
        for channel in (0..shape.size).step_by(16) {
            let channels = (shape.size - channel).min(16);
            let valid = first_lanes(channels);
            let from = keys[first * hidden + head * shape.size + channel..].as_ptr();
            // SAFETY: tokens that exist are read, of each the head's channels.
            let block = std::array::from_fn(|token| unsafe {
                match token < tokens {
                    true => _mm512_maskz_loadu_ps(valid, from.add(token * hidden)),
                    false => _mm512_setzero_ps(),
                }
            });
            for (at, column) in transposed(block).into_iter().take(channels).enumerate() {
                let out = &mut out[(channel + at) * row + first..][..16];
                // SAFETY: there is room for sixteen tokens of the channel.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr(), column) };
            }
        }
    }
}

/// Sixteen rows of sixteen values with rows and columns exchanged.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(rows: [__m512; 16]) -> [__m512; 16] {
    // Pairs, then fours, of rows side by side in each quarter of a vector.
    let pair = |at: usize| {
        let (a, b) = (rows[at / 2 * 2], rows[at / 2 * 2 + 1]);
        match at % 2 {
            0 => _mm512_unpacklo_ps(a, b),
            _ => _mm512_unpackhi_ps(a, b),
        }
    };
    let pairs: [__m512; 16] = std::array::from_fn(pair);
    let four = |at: usize| {
        let (first, half) = (at / 4 * 4, at % 4 / 2);
        let [a, b] = [first + half, first + half + 2].map(|at| _mm512_castps_pd(pairs[at]));
        _mm512_castpd_ps(match at % 2 {
            0 => _mm512_unpacklo_pd(a, b),
            _ => _mm512_unpackhi_pd(a, b),
        })
    };
    let fours: [__m512; 16] = std::array::from_fn(four);
    // Quarters of vectors exchanged: column `4 q + c` is quarter q of the fours with this c.
    let column = |at: usize| {
        let [a, b, c, d] = [0, 4, 8, 12].map(|first| fours[first + at % 4]);
        let (low, high) = match at / 8 {
            0 => (
                _mm512_shuffle_f32x4::<0x44>(a, b),
                _mm512_shuffle_f32x4::<0x44>(c, d),
            ),
            _ => (
                _mm512_shuffle_f32x4::<0xee>(a, b),
                _mm512_shuffle_f32x4::<0xee>(c, d),
            ),
        };
        match at / 4 % 2 {
            0 => _mm512_shuffle_f32x4::<0x88>(low, high),
            _ => _mm512_shuffle_f32x4::<0xdd>(low, high),
        }
    };
    std::array::from_fn(column)
}

/// One head's values, each multiplied by its token's weight.
#[target_feature(enable = "avx512f")]
pub(super) fn weigh_values(
    shape: HeadShape,
    head: usize,
    values: &[f32],
    weights: &[f32],
    out: &mut [f32],
) {
    let (size, hidden) = (shape.size, shape.hidden());
    for ((token, out), weight) in out.chunks_exact_mut(size).enumerate().zip(weights) {
        let values = &values[token * hidden + head * size..][..size];
        let weight = _mm512_set1_ps(*weight);
        for (values, out) in values.chunks(16).zip(out.chunks_mut(16)) {
            let valid = first_lanes(values.len());
            // SAFETY: the lanes of the mask lie within both, which are as long.
            unsafe {
                let values = _mm512_maskz_loadu_ps(valid, values.as_ptr());
                _mm512_mask_storeu_ps(out.as_mut_ptr(), valid, _mm512_mul_ps(values, weight));
            }
        }
    }
}

/// How one query attends to all tokens.
#[target_feature(enable = "avx512f,avx512dq,fma")]
pub(super) fn attend_one(
    shape: HeadShape,
    head: usize,
    query: &[f32],
    keys: &[f32],
    out: &mut [f32],
) {
    let (row, hidden) = (shape.row(), shape.hidden());
    assert!(query.len() == shape.size && keys.len() >= shape.tokens * hidden && out.len() == row);
    for (first, out) in out.chunks_exact_mut(16).enumerate() {
        let first = first * 16;
        // Sixteen tokens side by side, so that each adds up its channels in their order; beyond the
        // last, that one again.
        let tokens: [usize; 16] = std::array::from_fn(|at| (first + at).min(shape.tokens - 1));
        let mut sum = _mm512_setzero_ps();
        for (channel, query) in query.iter().enumerate() {
            let at = head * shape.size + channel;
            let keys = tokens.map(|token| keys[token * hidden + at]);
            // SAFETY: the array has sixteen values.
            let keys = unsafe { _mm512_loadu_ps(keys.as_ptr()) };
            sum = _mm512_fmadd_ps(_mm512_set1_ps(*query), keys, sum);
        }
        // SAFETY: the chunk has sixteen values.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    softmax(out, shape.tokens);
}

/// Attention of some queries to all tokens of their image, head after head.
#[target_feature(enable = "avx512f,avx512dq,fma")]
pub(super) fn attend(
    shape: HeadShape,
    queries: &[f32],
    // The keys are prepared, the values are not.
    KeysAndValues { keys, values }: KeysAndValues<'_>,
    mixed: &mut [f32],
    mut fused: Option<(&mut [f32], HeadFusion)>,
) {
    let (row, hidden, of_head) = (shape.row(), shape.hidden(), shape.size * shape.row());
    let count = queries.len() / hidden;
    assert!(queries.len() == count * hidden && mixed.len() == queries.len());
    assert!(keys.len() >= shape.heads * of_head && values.len() >= shape.tokens * hidden);
    let mut probabilities = Aligned::zeroed(ROWS * row);
    for head in 0..shape.heads {
        let keys = &keys[head * of_head..][..of_head];
        let channels = head * shape.size;
        for (first, rows) in tiles(count) {
            let at = first * hidden + channels;
            // SAFETY: the tile's queries exist, and their room in `mixed` too; the lengths of the
            // others were checked above.
            unsafe {
                let queries = queries.as_ptr().add(at);
                let mixed = mixed.as_mut_ptr().add(at);
                let values = values.as_ptr().add(channels);
                let scores = probabilities.as_mut_ptr();
                match rows {
                    1 => tile::<1>(shape, queries, keys, values, scores, mixed),
                    2 => tile::<2>(shape, queries, keys, values, scores, mixed),
                    3 => tile::<3>(shape, queries, keys, values, scores, mixed),
                    4 => tile::<4>(shape, queries, keys, values, scores, mixed),
                    5 => tile::<5>(shape, queries, keys, values, scores, mixed),
                    _ => tile::<6>(shape, queries, keys, values, scores, mixed),
                }
            }
            if let Some((fused, fusion)) = &mut fused {
                let fused = &mut fused[first * row..][..rows * row];
                fuse_head(
                    *fusion,
                    head,
                    shape.heads,
                    &probabilities[..rows * row],
                    fused,
                );
            }
        }
    }
}

/// Scores, softmax and mixed values of `QUERIES` queries of one head.
///
/// # Safety
/// Queries and mixed values are rows of the shape's hidden width, of which the head's channels are
/// read and written; there is room for a row of scores each, the keys are those of one head, and
/// the values point to the head's first channel of as many tokens as the shape has.
#[target_feature(enable = "avx512f,avx512dq,fma")]
unsafe fn tile<const QUERIES: usize>(
    shape: HeadShape,
    queries: *const f32,
    keys: &[f32],
    values: *const f32,
    probabilities: *mut f32,
    mixed: *mut f32,
) {
    let row = shape.row();
    // SAFETY: by this function's contract.
    unsafe {
        scores::<QUERIES>(shape, queries, keys, probabilities);
        let rows = std::slice::from_raw_parts_mut(probabilities, QUERIES * row);
        for row in rows.chunks_exact_mut(row) {
            softmax(row, shape.tokens);
        }
        let mut channel = 0;
        while channel < shape.size {
            let left = shape.size - channel;
            let (values, mixed) = (values.add(channel), mixed.add(channel));
            match left.div_ceil(16) {
                1 => mix::<QUERIES, 1>(shape, left, probabilities, values, mixed),
                2 => mix::<QUERIES, 2>(shape, left, probabilities, values, mixed),
                3 => mix::<QUERIES, 3>(shape, left, probabilities, values, mixed),
                _ => mix::<QUERIES, 4>(shape, left, probabilities, values, mixed),
            }
            channel += 64;
        }
    }
}

/// Scores of `QUERIES` queries with all keys, those beyond the last token included.
///
/// # Safety
/// As of [`tile`].
#[inline]
#[target_feature(enable = "avx512f,fma")]
unsafe fn scores<const QUERIES: usize>(
    shape: HeadShape,
    queries: *const f32,
    keys: &[f32],
    out: *mut f32,
) {
    let row = shape.row();
    let mut first = 0;
    while first < row {
        // SAFETY: by this function's contract; the vectors lie within the rows.
        unsafe {
            match (row - first) / 16 {
                1 => scores_of_keys::<QUERIES, 1>(shape, queries, keys, first, out),
                2 => scores_of_keys::<QUERIES, 2>(shape, queries, keys, first, out),
                3 => scores_of_keys::<QUERIES, 3>(shape, queries, keys, first, out),
                _ => scores_of_keys::<QUERIES, 4>(shape, queries, keys, first, out),
            }
        }
        first += 64;
    }
}

/// # Safety
/// As of [`tile`], and `VECTORS` vectors of keys from `first` on must lie within a row.
#[inline]
#[target_feature(enable = "avx512f,fma")]
unsafe fn scores_of_keys<const QUERIES: usize, const VECTORS: usize>(
    shape: HeadShape,
    queries: *const f32,
    keys: &[f32],
    first: usize,
    out: *mut f32,
) {
    let (row, hidden) = (shape.row(), shape.hidden());
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; QUERIES];
    for channel in 0..shape.size {
        let keys = keys[channel * row + first..].as_ptr();
        // SAFETY: by this function's contract.
        let keys: [__m512; VECTORS] =
            std::array::from_fn(|vector| unsafe { _mm512_loadu_ps(keys.add(vector * 16)) });
        for (query, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let query = unsafe { *queries.add(query * hidden + channel) };
            let query = _mm512_set1_ps(query);
            for (sum, keys) in sums.iter_mut().zip(keys) {
                *sum = _mm512_fmadd_ps(query, keys, *sum);
            }
        }
    }
    for (query, sums) in sums.into_iter().enumerate() {
        for (vector, sum) in sums.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(out.add(query * row + first + vector * 16), sum) };
        }
    }
}

/// Scores of a query to probabilities; zero beyond the last token.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn softmax(row: &mut [f32], tokens: usize) {
    let mut largest = _mm512_set1_ps(f32::MIN);
    for (chunk, scores) in row.chunks_exact(16).enumerate() {
        let valid = first_lanes(tokens - (chunk * 16).min(tokens));
        // SAFETY: a chunk has sixteen values.
        let scores = unsafe { _mm512_loadu_ps(scores.as_ptr()) };
        largest = _mm512_mask_max_ps(largest, valid, largest, scores);
    }
    let largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    let mut sum = _mm512_setzero_ps();
    for (chunk, scores) in row.chunks_exact_mut(16).enumerate() {
        let valid = first_lanes(tokens - (chunk * 16).min(tokens));
        // SAFETY: as above.
        unsafe {
            let x = _mm512_sub_ps(_mm512_loadu_ps(scores.as_ptr()), largest);
            let e = _mm512_maskz_mov_ps(valid, exp(x));
            sum = _mm512_add_ps(sum, e);
            _mm512_storeu_ps(scores.as_mut_ptr(), e);
        }
    }
    let inverse = _mm512_set1_ps(1.0 / sum_of_lanes(sum));
    for scores in row.chunks_exact_mut(16) {
        // SAFETY: as above.
        unsafe {
            let e = _mm512_loadu_ps(scores.as_ptr());
            _mm512_storeu_ps(scores.as_mut_ptr(), _mm512_mul_ps(e, inverse));
        }
    }
}

/// What `QUERIES` queries read of up to 64 channels, `channels` of which are the head's.
///
/// # Safety
/// As of [`tile`].
#[inline]
#[target_feature(enable = "avx512f,fma")]
unsafe fn mix<const QUERIES: usize, const VECTORS: usize>(
    shape: HeadShape,
    channels: usize,
    probabilities: *const f32,
    values: *const f32,
    mixed: *mut f32,
) {
    let (row, hidden) = (shape.row(), shape.hidden());
    let valid: [__mmask16; VECTORS] =
        std::array::from_fn(|vector| first_lanes(channels - vector * 16));
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; QUERIES];
    for token in 0..shape.tokens {
        // SAFETY: by this function's contract; lanes beyond the head's channels are masked.
        let values: [__m512; VECTORS] = std::array::from_fn(|vector| unsafe {
            _mm512_maskz_loadu_ps(valid[vector], values.add(token * hidden + vector * 16))
        });
        for (query, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let probability = unsafe { *probabilities.add(query * row + token) };
            let probability = _mm512_set1_ps(probability);
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = _mm512_fmadd_ps(probability, values, *sum);
            }
        }
    }
    for (query, sums) in sums.into_iter().enumerate() {
        for (vector, sum) in sums.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let at = mixed.add(query * hidden + vector * 16);
                _mm512_mask_storeu_ps(at, valid[vector], sum);
            }
        }
    }
}

/// Takes one head's rows into the heads' common ones.
#[inline]
#[target_feature(enable = "avx512f,fma")]
pub(super) fn fuse_head(
    fusion: HeadFusion,
    head: usize,
    heads: usize,
    of_head: &[f32],
    fused: &mut [f32],
) {
    assert_eq!(of_head.len(), fused.len());
    let share = _mm512_set1_ps(1.0 / heads as f32);
    for (of_head, fused) in of_head.chunks_exact(16).zip(fused.chunks_exact_mut(16)) {
        // SAFETY: both chunks have sixteen values.
        unsafe {
            let value = _mm512_loadu_ps(of_head.as_ptr());
            let before = _mm512_loadu_ps(fused.as_ptr());
            let after = match (fusion, head) {
                (HeadFusion::Mean, 0) => _mm512_mul_ps(value, share),
                (HeadFusion::Mean, _) => _mm512_fmadd_ps(value, share, before),
                (HeadFusion::Max | HeadFusion::Min, 0) => value,
                (HeadFusion::Max, _) => _mm512_max_ps(before, value),
                (HeadFusion::Min, _) => _mm512_min_ps(before, value),
            };
            _mm512_storeu_ps(fused.as_mut_ptr(), after);
        }
    }
}
