//! A kernel times directions of its outputs, for attribution.

use std::arch::x86_64::*;

use super::{math::sum_of_lanes, tile::first_lanes};
use crate::cpu::{
    instructions::HeadShape,
    rounding::Rounding,
    weights::{GROUP, Kernel, Linear, PAIR, PANEL, bf16_position, int8_position, panel_len},
};

/// Directions that are multiplied at once: with the four inputs of a group, 24 sums.
const DIRECTIONS: usize = 6;

/// The layer's kernel times each direction `[direction][out]`, into `[direction][in]`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,fma")]
pub(super) fn project(layer: &Linear, directions: &[f32], out: &mut [f32]) {
    let outputs = layer.outputs;
    let count = directions.len() / outputs;
    assert!(directions.len() == count * outputs && out.len() == count * layer.inputs);
    let padded = layer.panels() * PANEL;
    let mut scaled = vec![0.0; DIRECTIONS * padded];
    let directions = directions.chunks(DIRECTIONS * outputs);
    for (directions, out) in directions.zip(out.chunks_mut(DIRECTIONS * layer.inputs)) {
        scaled.fill(0.0);
        for (direction, scaled) in directions.chunks(outputs).zip(scaled.chunks_mut(padded)) {
            match &layer.kernel {
                // Once for all inputs, instead of each weight.
                Kernel::Int8(kernel) => {
                    let values = direction.iter().zip(&*kernel.scale);
                    let values = scaled.iter_mut().zip(values);
                    values.for_each(|(scaled, (value, scale))| *scaled = value * scale);
                }
                Kernel::Bf16(_) | Kernel::Float32(_) => {
                    scaled[..outputs].copy_from_slice(direction)
                }
            }
        }
        match &layer.kernel {
            Kernel::Int8(kernel) => project_int8(layer, &kernel.values, &scaled, out),
            Kernel::Bf16(values) => project_bf16(layer, values, &scaled, out),
            Kernel::Float32(values) => project_float32(layer, values, &scaled, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,fma")]
fn project_int8(layer: &Linear, kernel: &[i8], directions: &[f32], out: &mut [f32]) {
    let (inputs, padded) = (layer.inputs, layer.panels() * PANEL);
    assert!(directions.len() == DIRECTIONS * padded);
    assert!(kernel.len() == layer.panels() * panel_len(inputs));
    for group in 0..inputs.div_ceil(GROUP) {
        let mut sums = [[_mm512_setzero_ps(); DIRECTIONS]; GROUP];
        for channel in (0..padded).step_by(16) {
            let at = int8_position(inputs, group * GROUP, channel);
            // SAFETY: the panel has four bytes of sixteen channels there.
            let weights = unsafe { _mm512_loadu_si512(kernel.as_ptr().add(at).cast()) };
            // Each lane has the four inputs of a channel, the first in its lowest byte.
            let weights = [
                _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(weights)),
                _mm512_srai_epi32::<24>(_mm512_slli_epi32::<16>(weights)),
                _mm512_srai_epi32::<24>(_mm512_slli_epi32::<8>(weights)),
                _mm512_srai_epi32::<24>(weights),
            ];
            for (direction, values) in directions.chunks_exact(padded).enumerate() {
                // SAFETY: a direction is filled up to whole panels.
                let values = unsafe { _mm512_loadu_ps(values.as_ptr().add(channel)) };
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    let weights = _mm512_cvtepi32_ps(weights);
                    sums[direction] = _mm512_fmadd_ps(weights, values, sums[direction]);
                }
            }
        }
        for (input, sums) in sums.into_iter().enumerate() {
            let input = group * GROUP + input;
            if input < inputs {
                let places = out.iter_mut().skip(input).step_by(inputs);
                for (place, sum) in places.zip(sums) {
                    *place = sum_of_lanes(sum);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,fma")]
fn project_bf16(layer: &Linear, kernel: &[i8], directions: &[f32], out: &mut [f32]) {
    let (inputs, padded) = (layer.inputs, layer.panels() * PANEL);
    assert!(directions.len() == DIRECTIONS * padded);
    assert!(kernel.len() == layer.panels() * panel_len(inputs * Rounding::Bf16.size()));
    for pair in 0..inputs.div_ceil(PAIR) {
        let mut sums = [[_mm512_setzero_ps(); DIRECTIONS]; PAIR];
        for channel in (0..padded).step_by(16) {
            let at = bf16_position(inputs, pair * PAIR, channel);
            // SAFETY: the panel has the two values of sixteen channels there.
            let weights = unsafe { _mm512_loadu_si512(kernel.as_ptr().add(at).cast()) };
            // Each lane has the two inputs of a channel, the first in its lower half.
            let weights = [
                _mm512_slli_epi32::<16>(weights),
                _mm512_slli_epi32::<16>(_mm512_srli_epi32::<16>(weights)),
            ]
            .map(|bits| _mm512_castsi512_ps(bits));
            for (direction, values) in directions.chunks_exact(padded).enumerate() {
                // SAFETY: a direction is filled up to whole panels.
                let values = unsafe { _mm512_loadu_ps(values.as_ptr().add(channel)) };
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    sums[direction] = _mm512_fmadd_ps(weights, values, sums[direction]);
                }
            }
        }
        for (input, sums) in sums.into_iter().enumerate() {
            let input = pair * PAIR + input;
            if input < inputs {
                let places = out.iter_mut().skip(input).step_by(inputs);
                for (place, sum) in places.zip(sums) {
                    *place = sum_of_lanes(sum);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,fma")]
fn project_float32(layer: &Linear, kernel: &[f32], directions: &[f32], out: &mut [f32]) {
    let (inputs, padded) = (layer.inputs, layer.panels() * PANEL);
    assert!(directions.len() == DIRECTIONS * padded && kernel.len() == inputs * padded);
    for input in 0..inputs {
        let mut sums = [_mm512_setzero_ps(); DIRECTIONS];
        for channel in (0..padded).step_by(16) {
            let at = (channel / PANEL * inputs + input) * PANEL + channel % PANEL;
            // SAFETY: the panel has sixteen channels there.
            let weights = unsafe { _mm512_loadu_ps(kernel.as_ptr().add(at)) };
            for (sum, values) in sums.iter_mut().zip(directions.chunks_exact(padded)) {
                // SAFETY: a direction is filled up to whole panels.
                let values = unsafe { _mm512_loadu_ps(values.as_ptr().add(channel)) };
                *sum = _mm512_fmadd_ps(weights, values, *sum);
            }
        }
        let places = out.iter_mut().skip(input).step_by(inputs);
        for (place, sum) in places.zip(sums) {
            *place = sum_of_lanes(sum);
        }
    }
}

/// What the class token read of each token along each direction.
#[target_feature(enable = "avx512f,avx512dq,fma")]
pub(super) fn attribute(shape: HeadShape, read: &[f32], projected: &[f32], out: &mut [f32]) {
    let (size, hidden) = (shape.size, shape.hidden());
    let directions = projected.len() / hidden;
    assert!(projected.len() == directions * hidden && read.len() == shape.tokens * hidden);
    assert!(out.len() == shape.tokens * directions);
    for (token, out) in out.chunks_exact_mut(directions).enumerate() {
        for (some, out) in out.chunks_mut(DIRECTIONS).enumerate() {
            let mut sums = [_mm512_setzero_ps(); DIRECTIONS];
            for head in 0..shape.heads {
                let read = &read[(head * shape.tokens + token) * size..][..size];
                for (vector, values) in read.chunks(16).enumerate() {
                    let valid = first_lanes(values.len());
                    let channel = head * size + vector * 16;
                    // SAFETY: the mask's lanes lie within the head's channels.
                    let values = unsafe { _mm512_maskz_loadu_ps(valid, values.as_ptr()) };
                    for (direction, sum) in sums[..out.len()].iter_mut().enumerate() {
                        let at = (some * DIRECTIONS + direction) * hidden + channel;
                        // SAFETY: as above.
                        let weights =
                            unsafe { _mm512_maskz_loadu_ps(valid, projected.as_ptr().add(at)) };
                        *sum = _mm512_fmadd_ps(values, weights, *sum);
                    }
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum_of_lanes(sum);
            }
        }
    }
}
