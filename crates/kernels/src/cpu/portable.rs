//! Every step in plain Rust, one value after the other: what the others are compared with.
//!
//! Operations and their order are those of the vector code, so results have the same bits on every
//! processor. It is so slow that no session uses it.

mod math;

pub(crate) use self::math::{
    ERF, ERF_FACTOR, EXP, EXP_FROM, LN_2, QUICK, SIGMOID_TO, TANH_CUBIC, TANH_FACTOR,
};

use half::bf16;

use self::math::{LANES, activate, exp, sum_in_chains, sum_of_lanes};
use super::{
    aligned::LINE,
    instructions::{Epilogue, HeadFusion, HeadShape, Instructions, KeysAndValues, Operand},
    rounding::{QuantizedMut, Rounding},
    weights::{Kernel, Linear, Norm, PANEL, ZERO_POINT, bf16_position, int8_position},
};

/// The largest magnitude of an integer.
const QUANTIZED_MAX: f32 = 127.0;

/// What takes the place of a token's largest magnitude if that is smaller: a token of zeros must
/// not be divided by zero.
const SMALLEST_RANGE: f32 = 1e-12;

/// Plain Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Instructions for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn has_bf16(&self) -> bool {
        true
    }

    fn normalize(&self, rows: &[f32], norm: &Norm, epsilon: f32, out: &mut [f32]) {
        let width = norm.scale.len();
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mean = sum_in_chains(row, |sum, value| sum + value) / width as f32;
            let squares = sum_in_chains(row, |sum, value| {
                let distance = value - mean;
                distance.mul_add(distance, sum)
            });
            let variance = squares / width as f32;
            let factor = 1.0 / (variance + epsilon).sqrt();
            let parameters = norm.scale.iter().zip(&norm.shift);
            for ((out, value), (scale, shift)) in out.iter_mut().zip(row).zip(parameters) {
                *out = ((value - mean) * factor).mul_add(*scale, *shift);
            }
        }
    }

    fn quantize(
        &self,
        rows: &[f32],
        width: usize,
        stride: usize,
        rounding: Rounding,
        out: &mut QuantizedMut<'_>,
    ) {
        for token in 0..out.scale.len() {
            let row = &rows[token * stride..][..width];
            if rounding == Rounding::Bf16 {
                out.scale[token] = 1.0;
                let bytes = &mut out.bytes[token * out.stride..][..out.stride - LINE];
                let values = row.iter().copied().chain(std::iter::repeat(0.0));
                for (bytes, value) in bytes.chunks_exact_mut(2).zip(values) {
                    bytes.copy_from_slice(&bf16::from_f32(value).to_le_bytes());
                }
                continue;
            }
            let largest = match row.iter().any(|value| value.is_nan()) {
                true => f32::NAN,
                false => row
                    .iter()
                    .fold(0.0, |largest, value| value.abs().max(largest)),
            };
            let step = step_of(largest);
            let inverse = 1.0 / step;
            out.scale[token] = step;
            let bytes = &mut out.bytes[token * out.stride..];
            for (byte, value) in bytes.iter_mut().zip(row) {
                *byte = ((value * inverse).round_ties_even() as i32 + ZERO_POINT) as u8;
            }
        }
    }

    fn normalize_and_quantize(
        &self,
        rows: &[f32],
        norm: &Norm,
        epsilon: f32,
        rounding: Rounding,
        out: &mut QuantizedMut<'_>,
    ) {
        let mut normalized = vec![0.0; rows.len()];
        self.normalize(rows, norm, epsilon, &mut normalized);
        let width = norm.scale.len();
        self.quantize(&normalized, width, width, rounding, out);
    }

    fn multiply(&self, input: Operand<'_>, layer: &Linear, mut epilogue: Epilogue<'_>, _: usize) {
        let outputs = layer.outputs;
        for at in 0..epilogue.rows(outputs) * outputs {
            let (row, column) = (at / outputs, at % outputs);
            let result = product(input, layer, row, column);
            match &mut epilogue {
                Epilogue::Store(out) => out[at] = result,
                Epilogue::Add(out) => out[at] += result,
                Epilogue::Activate(activation, out) => {
                    out.values[row * out.stride + column] = activate(*activation, result);
                }
            }
        }
    }

    fn prepared_len(&self, _: HeadShape) -> [usize; 2] {
        [0, 0]
    }

    fn prepare_head(
        &self,
        _: HeadShape,
        _: usize,
        _: KeysAndValues<'_>,
        _: &mut [f32],
        _: &mut [f32],
    ) {
    }

    fn attend_one(
        &self,
        shape: HeadShape,
        head: usize,
        query: &[f32],
        keys: &[f32],
        out: &mut [f32],
    ) {
        out.fill(0.0);
        for (token, score) in out[..shape.tokens].iter_mut().enumerate() {
            let key = &keys[token * shape.hidden() + head * shape.size..];
            let products = query.iter().zip(key);
            *score = products.fold(0.0, |sum, (query, key)| query.mul_add(*key, sum));
        }
        softmax(&mut out[..shape.tokens]);
    }

    fn weigh_values(
        &self,
        shape: HeadShape,
        head: usize,
        values: &[f32],
        weights: &[f32],
        out: &mut [f32],
    ) {
        for ((token, out), weight) in out.chunks_exact_mut(shape.size).enumerate().zip(weights) {
            let values = &values[token * shape.hidden() + head * shape.size..];
            for (out, value) in out.iter_mut().zip(values) {
                *out = weight * value;
            }
        }
    }

    fn add_weighted(&self, weight: f32, row: &[f32], sum: &mut [f32]) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum = weight.mul_add(*value, *sum);
        }
    }

    fn attend(
        &self,
        shape: HeadShape,
        queries: &[f32],
        _: KeysAndValues<'_>,
        of_image: KeysAndValues<'_>,
        mixed: &mut [f32],
        mut fused: Option<(&mut [f32], HeadFusion)>,
    ) {
        let (hidden, row) = (shape.hidden(), shape.row());
        let mut probabilities = vec![0.0; row];
        mixed.fill(0.0);
        for query in 0..queries.len() / hidden {
            for head in 0..shape.heads {
                let channels = query * hidden + head * shape.size..;
                let channels = &queries[channels][..shape.size];
                self.attend_one(shape, head, channels, of_image.keys, &mut probabilities);
                if let Some((fused, fusion)) = &mut fused {
                    let fused = &mut fused[query * row..][..row];
                    fuse_head(*fusion, head, shape.heads, &probabilities, fused);
                }
                let mixed = &mut mixed[query * hidden + head * shape.size..][..shape.size];
                for (token, probability) in probabilities[..shape.tokens].iter().enumerate() {
                    let values = &of_image.values[token * hidden + head * shape.size..];
                    for (mixed, value) in mixed.iter_mut().zip(values) {
                        *mixed = probability.mul_add(*value, *mixed);
                    }
                }
            }
        }
    }

    fn project(&self, layer: &Linear, directions: &[f32], out: &mut [f32]) {
        let directions = directions.chunks_exact(layer.outputs);
        for (direction, out) in directions.zip(out.chunks_exact_mut(layer.inputs)) {
            for (input, out) in out.iter_mut().enumerate() {
                let mut sums = [0.0; LANES];
                for (output, value) in direction.iter().enumerate() {
                    let (weight, scale) = weight(layer, input, output);
                    let sum = &mut sums[output % LANES];
                    *sum = weight.mul_add(value * scale, *sum);
                }
                *out = sum_of_lanes(sums);
            }
        }
    }

    fn attribute(&self, shape: HeadShape, read: &[f32], projected: &[f32], out: &mut [f32]) {
        let (size, hidden) = (shape.size, shape.hidden());
        let directions = projected.len() / hidden;
        for (at, out) in out.iter_mut().enumerate() {
            let (token, direction) = (at / directions, at % directions);
            let mut sums = [0.0; LANES];
            for channel in 0..hidden {
                let head = (channel / size * shape.tokens + token) * size;
                let weight = projected[direction * hidden + channel];
                let sum = &mut sums[channel % size % LANES];
                *sum = read[head + channel % size].mul_add(weight, *sum);
            }
            *out = sum_of_lanes(sums);
        }
    }
}

/// What an integer of a token stands for whose largest magnitude this is. A number that is none
/// stays none.
pub(crate) fn step_of(largest: f32) -> f32 {
    let range = if largest < SMALLEST_RANGE {
        SMALLEST_RANGE
    } else {
        largest
    };
    range * (1.0 / QUANTIZED_MAX)
}

/// A kernel's value, and the scale of its channel.
fn weight(layer: &Linear, input: usize, output: usize) -> (f32, f32) {
    match &layer.kernel {
        Kernel::Int8(kernel) => {
            let value = kernel.values[int8_position(layer.inputs, input, output)];
            (f32::from(value), kernel.scale[output])
        }
        Kernel::Bf16(values) => {
            let at = bf16_position(layer.inputs, input, output);
            let bytes = [values[at], values[at + 1]].map(i8::cast_unsigned);
            (bf16::from_le_bytes(bytes).to_f32(), 1.0)
        }
        Kernel::Float32(values) => {
            let at = (output / PANEL * layer.inputs + input) * PANEL + output % PANEL;
            (values[at], 1.0)
        }
    }
}

/// One value of a layer's result, bias included.
fn product(input: Operand<'_>, layer: &Linear, row: usize, column: usize) -> f32 {
    let bias = layer.bias[column];
    match (input, &layer.kernel) {
        (Operand::Int8(tokens), Kernel::Int8(kernel)) => {
            let bytes = &tokens.bytes[row * tokens.stride..][..layer.inputs];
            let products = bytes.iter().enumerate().map(|(at, &byte)| {
                let value = kernel.values[int8_position(layer.inputs, at, column)];
                i32::from(byte) * i32::from(value)
            });
            let sum = products.sum::<i32>() - kernel.offset[column];
            (sum as f32 * kernel.scale[column]).mul_add(tokens.scale[row], bias)
        }
        (Operand::Bf16(tokens), Kernel::Bf16(_)) => {
            let values = tokens.bytes[row * tokens.stride..].as_chunks().0;
            let values = values[..layer.inputs].iter().enumerate();
            let sum = values.fold(0.0, |sum: f32, (at, bytes)| {
                let value = bf16::from_le_bytes(*bytes).to_f32();
                value.mul_add(weight(layer, at, column).0, sum)
            });
            sum + bias
        }
        (Operand::Float32(rows), Kernel::Float32(_)) => {
            let row = &rows[row * layer.inputs..][..layer.inputs];
            let sum = row.iter().enumerate().fold(0.0, |sum: f32, (at, value)| {
                value.mul_add(weight(layer, at, column).0, sum)
            });
            sum + bias
        }
        _ => mismatched(),
    }
}

/// An encoder prepares each layer's input in the layer's own numbers.
#[expect(clippy::panic, reason = "a mistake in this crate, not in its input")]
pub(crate) fn mismatched() -> ! {
    panic!("a layer and its input are of different precision")
}

fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sums = [0.0; LANES];
    for (at, score) in scores.iter_mut().enumerate() {
        *score = exp(*score - largest);
        sums[at % LANES] += *score;
    }
    let inverse = 1.0 / sum_of_lanes(sums);
    scores.iter_mut().for_each(|score| *score *= inverse);
}

fn fuse_head(fusion: HeadFusion, head: usize, heads: usize, of_head: &[f32], fused: &mut [f32]) {
    let share = 1.0 / heads as f32;
    for (fused, value) in fused.iter_mut().zip(of_head) {
        *fused = match (fusion, head) {
            (HeadFusion::Mean, 0) => value * share,
            (HeadFusion::Mean, _) => value.mul_add(share, *fused),
            (HeadFusion::Max | HeadFusion::Min, 0) => *value,
            (HeadFusion::Max, _) => fused.max(*value),
            (HeadFusion::Min, _) => fused.min(*value),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_zeros_is_quantized_to_the_zero_point() {
        let mut tokens = crate::cpu::rounding::QuantizedTokens::new(1, 4);
        let mut parts = tokens.split([1].into_iter());
        Portable.quantize(&[0.0; 4], 4, 4, Rounding::Int8, &mut parts[0]);
        assert_eq!(parts[0].bytes[..4], [128; 4]);
    }
}
