//! Passes over rows of tokens: normalisation and rounding to integers.

use std::arch::x86_64::*;

use super::{math::sum_of_chains, tile::first_lanes};
use crate::cpu::{
    instructions::QuantizedMut,
    portable::step_of,
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

/// Each row to integers with a scale of its own.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn quantize(rows: &[f32], width: usize, stride: usize, out: &mut QuantizedMut<'_>) {
    assert!(width <= out.stride && width <= stride);
    let bytes = out.bytes.chunks_mut(out.stride);
    for ((row, bytes), scale) in rows.chunks(stride).zip(bytes).zip(&mut *out.scale) {
        *scale = quantize_row(&row[..width], &mut bytes[..width]);
    }
}

/// Both, while a row is in the first cache.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn normalize_and_quantize(
    rows: &[f32],
    norm: &Norm,
    epsilon: f32,
    out: &mut QuantizedMut<'_>,
) {
    let width = norm.scale.len();
    assert!(width <= out.stride && rows.len() == out.scale.len() * width);
    let mut normalized = vec![0.0; width];
    let bytes = out.bytes.chunks_mut(out.stride);
    for ((row, bytes), scale) in rows.chunks_exact(width).zip(bytes).zip(&mut *out.scale) {
        normalize_row(row, norm, epsilon, &mut normalized);
        *scale = quantize_row(&normalized, &mut bytes[..width]);
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
