//! Passes over rows of tokens: normalisation and rounding to integers.

use std::arch::x86_64::*;

use super::{math::sum_of_chains, tile::first_lanes};
use crate::cpu::{
    aligned::LINE,
    portable::step_of,
    rounding::{QuantizedMut, Rounding},
    weights::{Norm, ZERO_POINT},
};

/// Each row to mean 0 and variance 1, then scaled and shifted.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn normalize(rows: &[f32], norm: &Norm, epsilon: f32, out: &mut [f32]) {
    let width = norm.scale.len();
    assert_eq!(rows.len(), out.len());
    for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        normalize_row(row, norm, epsilon, out);
    }
}

/// Each row to integers with a scale of its own, or to bfloat16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn quantize(
    rows: &[f32],
    width: usize,
    stride: usize,
    rounding: Rounding,
    out: &mut QuantizedMut<'_>,
) {
    assert!(width <= stride);
    let bytes = out.bytes.chunks_mut(out.stride);
    for ((row, bytes), scale) in rows.chunks(stride).zip(bytes).zip(&mut *out.scale) {
        *scale = round_row(rounding, &row[..width], bytes);
    }
}

/// Both, while a row is in the first cache.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn normalize_and_quantize(
    rows: &[f32],
    norm: &Norm,
    epsilon: f32,
    rounding: Rounding,
    out: &mut QuantizedMut<'_>,
) {
    let width = norm.scale.len();
    assert!(rows.len() == out.scale.len() * width);
    let mut normalized = vec![0.0; width];
    let bytes = out.bytes.chunks_mut(out.stride);
    for ((row, bytes), scale) in rows.chunks_exact(width).zip(bytes).zip(&mut *out.scale) {
        normalize_row(row, norm, epsilon, &mut normalized);
        *scale = round_row(rounding, &normalized, bytes);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn normalize_row(row: &[f32], norm: &Norm, epsilon: f32, out: &mut [f32]) {
    let width = row.len();
    assert!(out.len() == width && norm.scale.len() == width && norm.shift.len() == width);
    let mean = sum(row) / width as f32;
    let variance = squares(row, mean) / width as f32;
    let mean = _mm512_set1_ps(mean);
    let factor = _mm512_set1_ps(1.0 / (variance + epsilon).sqrt());
    for at in (0..width).step_by(16) {
        let valid = first_lanes(width - at);
        // SAFETY: the lanes of the mask lie within the row and the three others, which are as long.
        unsafe {
            let x = _mm512_maskz_loadu_ps(valid, row.as_ptr().add(at));
            let scale = _mm512_maskz_loadu_ps(valid, norm.scale.as_ptr().add(at));
            let shift = _mm512_maskz_loadu_ps(valid, norm.shift.as_ptr().add(at));
            let normalized = _mm512_mul_ps(_mm512_sub_ps(x, mean), factor);
            let result = _mm512_fmadd_ps(normalized, scale, shift);
            _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), valid, result);
        }
    }
}

/// Rounds a row into `bytes`, which may be longer, and gives its scale.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn round_row(rounding: Rounding, row: &[f32], bytes: &mut [u8]) -> f32 {
    match rounding {
        Rounding::Int8 => quantize_row(row, &mut bytes[..row.len()]),
        Rounding::Bf16 => {
            narrow_row(row, bytes);
            1.0
        }
    }
}

/// Rounds a row to bfloat16, filled up with zeros to whole cache lines: what a tile reads.
///
/// By integers, so that every processor and the reference round alike: the conversion instruction
/// takes subnormal numbers as zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn narrow_row(row: &[f32], bytes: &mut [u8]) {
    let (half, one) = (_mm512_set1_epi32(0x7fff), _mm512_set1_epi32(1));
    let lines = (row.len() * Rounding::Bf16.size()).div_ceil(LINE);
    for (at, out) in bytes[..lines * LINE].chunks_exact_mut(LINE / 2).enumerate() {
        let (x, _) = load(row.get(at * 16..).unwrap_or_default());
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), one);
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(half, odd));
        let none = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(1 << 22));
        let rounded = _mm512_mask_mov_epi32(rounded, none, quiet);
        let narrow = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
        // SAFETY: the chunk has sixteen values of two bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), narrow) };
    }
}

/// Rounds a row to `bytes` and gives its scale.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn quantize_row(row: &[f32], bytes: &mut [u8]) -> f32 {
    assert_eq!(row.len(), bytes.len());
    let step = step_of(largest(row));
    let inverse = _mm512_set1_ps(1.0 / step);
    let zero_point = _mm512_set1_epi32(ZERO_POINT);
    for at in (0..row.len()).step_by(16) {
        let valid = first_lanes(row.len() - at);
        // SAFETY: the lanes of the mask lie within the row, and `bytes` is as long.
        unsafe {
            let x = _mm512_maskz_loadu_ps(valid, row.as_ptr().add(at));
            // Rounds to the nearest, ties to even: the mode that threads start with.
            let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
            let stored = _mm512_add_epi32(rounded, zero_point);
            let at = bytes.as_mut_ptr().add(at).cast();
            _mm512_mask_cvtusepi32_storeu_epi8(at, valid, stored);
        }
    }
    step
}

/// Adds `weight · row` to `sum`.
#[target_feature(enable = "avx512f")]
pub(super) fn add_weighted(weight: f32, row: &[f32], sum: &mut [f32]) {
    let weight = _mm512_set1_ps(weight);
    for (row, sum) in row.chunks(16).zip(sum.chunks_mut(16)) {
        let valid = first_lanes(row.len().min(sum.len()));
        // SAFETY: the lanes of the mask lie within both.
        unsafe {
            let row = _mm512_maskz_loadu_ps(valid, row.as_ptr());
            let before = _mm512_maskz_loadu_ps(valid, sum.as_ptr());
            let after = _mm512_fmadd_ps(weight, row, before);
            _mm512_mask_storeu_ps(sum.as_mut_ptr(), valid, after);
        }
    }
}

/// The sum of a row, in four chains.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sum(row: &[f32]) -> f32 {
    let mut chains = [_mm512_setzero_ps(); 4];
    for (chunk, values) in row.chunks(16).enumerate() {
        let chain = &mut chains[chunk % 4];
        *chain = _mm512_add_ps(*chain, load(values).0);
    }
    sum_of_chains(chains)
}

/// The sum of squared distances to the mean.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn squares(row: &[f32], mean: f32) -> f32 {
    let mean = _mm512_set1_ps(mean);
    let mut chains = [_mm512_setzero_ps(); 4];
    for (chunk, values) in row.chunks(16).enumerate() {
        let chain = &mut chains[chunk % 4];
        let (x, valid) = load(values);
        let distance = _mm512_maskz_sub_ps(valid, x, mean);
        *chain = _mm512_fmadd_ps(distance, distance, *chain);
    }
    sum_of_chains(chains)
}

/// The largest magnitude; no number if one of the values is none.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn largest(row: &[f32]) -> f32 {
    let mut chains = [_mm512_setzero_ps(); 4];
    let mut none = 0;
    for (chunk, values) in row.chunks(16).enumerate() {
        let chain = &mut chains[chunk % 4];
        let x = load(values).0;
        none |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        *chain = _mm512_max_ps(*chain, _mm512_abs_ps(x));
    }
    if none != 0 {
        return f32::NAN;
    }
    let [a, b, c, d] = chains;
    _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d)))
}

/// Up to sixteen values, filled up with zeros, and which lanes they are.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> (__m512, __mmask16) {
    let valid = first_lanes(values.len());
    // SAFETY: the lanes of the mask lie within the slice; others are not touched.
    (
        unsafe { _mm512_maskz_loadu_ps(valid, values.as_ptr()) },
        valid,
    )
}
