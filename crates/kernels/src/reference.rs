//! What the operators compute, one step of the kernels after the other, in plain Rust.
//!
//! Values are rounded to float16 where the kernels keep them in float16, so that results differ
//! only by the order of float32 sums and by the last bits of the exponential.

use half::f16;

/// Sizes of one network's attention.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AttentionShape {
    /// Tokens of an image.
    pub tokens: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head.
    pub head_size: usize,
}

impl AttentionShape {
    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.heads * self.head_size
    }

    /// Length of a row of the head mean: a multiple of eight, filled up with zeros.
    pub fn mean_stride(&self) -> usize {
        self.tokens.next_multiple_of(8)
    }
}

/// An image in bytes, `pixels × 3`, normalised to planes, `3 × pixels`: each step is rounded to
/// float32, the result to float16.
pub fn normalize(bytes: &[u8], scale: f32, mean: [f32; 3], deviation: [f32; 3]) -> Vec<f16> {
    let of_channel = |channel: usize| {
        let bytes = bytes.iter().skip(channel).step_by(3);
        bytes.map(move |&byte| {
            f16::from_f32((f32::from(byte) * scale - mean[channel]) / deviation[channel])
        })
    };
    (0..3).flat_map(of_channel).collect()
}

/// Attention of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Values mixed by attention, `queries × width`.
    pub mixed: Vec<f16>,
    /// Mean of the heads' softmax matrices, `queries × mean_stride`.
    pub mean: Vec<f16>,
    /// Of each head, how the class token attends to every token: `heads × tokens`.
    pub class_rows: Vec<f32>,
}

/// Attention of the first `queries` tokens of one image.
///
/// `queries_and_keys` is `tokens × 2·width`, the queries first; `values` is `tokens × width`; the
/// biases are `width` long. The attention scale is part of the queries. The keys have no bias: one
/// would shift all scores of a query alike.
pub fn attention(
    shape: &AttentionShape,
    queries: usize,
    queries_and_keys: &[f16],
    values: &[f16],
    query_bias: &[f16],
    value_bias: &[f16],
) -> Attention {
    let (tokens, width, size) = (shape.tokens, shape.width(), shape.head_size);
    let mut attention = Attention {
        mixed: vec![f16::ZERO; queries * width],
        mean: Vec::with_capacity(queries * shape.mean_stride()),
        class_rows: vec![0.0; shape.heads * tokens],
    };
    for query in 0..queries {
        let mut mean = vec![0.0_f32; shape.mean_stride()];
        for head in 0..shape.heads {
            let columns = head * size..(head + 1) * size;
            let row = &queries_and_keys[query * 2 * width..][columns.clone()];
            let row: Vec<f32> = row
                .iter()
                .zip(&query_bias[columns.clone()])
                .map(|(value, bias)| f16::from_f32(value.to_f32() + bias.to_f32()).to_f32())
                .collect();
            let mut scores: Vec<f32> = (0..tokens)
                .map(|key| {
                    let key = &queries_and_keys[key * 2 * width + width..][columns.clone()];
                    row.iter().zip(key).map(|(a, b)| a * b.to_f32()).sum()
                })
                .collect();
            softmax(&mut scores);
            let mut mixed = vec![0.0_f32; size];
            for (key, probability) in scores.iter().enumerate() {
                mean[key] += probability;
                let probability = f16::from_f32(*probability).to_f32();
                let value = &values[key * width..][columns.clone()];
                for (mixed, value) in mixed.iter_mut().zip(value) {
                    *mixed += probability * value.to_f32();
                }
            }
            let out = &mut attention.mixed[query * width..][columns.clone()];
            for ((out, mixed), bias) in out.iter_mut().zip(mixed).zip(&value_bias[columns]) {
                *out = f16::from_f32(mixed + bias.to_f32());
            }
            if query == 0 {
                attention.class_rows[head * tokens..][..tokens].copy_from_slice(&scores);
            }
        }
        let heads = shape.heads as f32;
        let mean = mean.into_iter().map(|sum| f16::from_f32(sum / heads));
        attention.mean.extend(mean);
    }
    attention
}

fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

/// Rollout of one image (Abnar & Zuidema 2020), `layers × tokens`: row `k` is the product that
/// starts at block `k`, with the sum 1.
///
/// `means` are the blocks' head means, `queries × mean_stride` each; the last block's has the rows
/// that the classifier reads.
pub fn rollout(shape: &AttentionShape, means: &[&[f16]]) -> Vec<f32> {
    let (tokens, stride) = (shape.tokens, shape.mean_stride());
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(means.len());
    for mean in means.iter().rev() {
        let mut next = vec![0.0_f32; tokens];
        match rows.last() {
            None => {
                for (at, row) in mean.chunks_exact(stride).enumerate() {
                    next[at] += 1.0;
                    for (next, value) in next.iter_mut().zip(row) {
                        *next += value.to_f32();
                    }
                }
            }
            Some(before) => {
                next.copy_from_slice(before);
                for (weight, row) in before.iter().zip(mean.chunks_exact(stride)) {
                    for (next, value) in next.iter_mut().zip(row) {
                        *next += weight * value.to_f32();
                    }
                }
            }
        }
        rows.push(next);
    }
    let normalised = rows.iter().rev().flat_map(|row| {
        let sum: f32 = row.iter().sum();
        row.iter().map(move |value| value / sum)
    });
    normalised.collect()
}

/// What attribution needs of one block and one image.
#[derive(Clone, Copy, Debug)]
pub struct AttributionBlock<'a> {
    /// Output kernel, `width × width` as `[in, out]`.
    pub output_kernel: &'a [f16],
    /// Values without their bias, `tokens × width`.
    pub values: &'a [f16],
    /// The values' bias.
    pub value_bias: &'a [f16],
    /// The class token's attention, `heads × tokens`.
    pub class_rows: &'a [f32],
}

/// The tokens' part of each label's logit, `tokens × labels`, for directions `labels × width`.
pub fn attribution(
    shape: &AttentionShape,
    directions: &[f16],
    blocks: &[AttributionBlock<'_>],
) -> Vec<f32> {
    let (tokens, width) = (shape.tokens, shape.width());
    let labels = directions.len() / width;
    let mut by_token = vec![0.0_f32; tokens * labels];
    for block in blocks {
        let projected: Vec<f32> = directions
            .chunks_exact(width)
            .flat_map(|direction| {
                block.output_kernel.chunks_exact(width).map(move |row| {
                    let products = row.iter().zip(direction);
                    let sum: f32 = products.map(|(a, b)| a.to_f32() * b.to_f32()).sum();
                    f16::from_f32(sum).to_f32()
                })
            })
            .collect();
        for token in 0..tokens {
            let weighted: Vec<f32> = (0..width)
                .map(|at| {
                    let weight = block.class_rows[at / shape.head_size * tokens + token];
                    let value = block.values[token * width + at].to_f32();
                    weight * (value + block.value_bias[at].to_f32())
                })
                .collect();
            for (label, projected) in projected.chunks_exact(width).enumerate() {
                let products = weighted.iter().zip(projected);
                by_token[token * labels + label] += products.map(|(a, b)| a * b).sum::<f32>();
            }
        }
    }
    by_token
}

#[cfg(test)]
mod tests;
