//! Attention rollout (Abnar & Zuidema 2020) of one image as a row vector.
//!
//! Each block's attention matrix A, its heads fused into one, becomes ½A + ½I, or, where rows do
//! not add up to one, A + I with rows divided by their sums. Only the row of the tokens that the
//! classifier reads is followed, from the last block to the first.

use super::{
    instructions::{HeadFusion, Instructions},
    shape::EncoderShape,
};

/// Writes the rollout that starts at block `k` into row `k` of `by_start` `[layers][tokens]`.
///
/// `fused` is `[layers][tokens][row]`, with `row` values from one query to the next; of the last
/// block only the queries that the classifier reads are there.
pub(crate) fn rollout(
    instructions: &dyn Instructions,
    shape: &EncoderShape,
    fused: &[f32],
    row: usize,
    by_start: &mut [f32],
) {
    let tokens = shape.tokens();
    let mut current = vec![0.0; tokens];
    for layer in (0..shape.layers).rev() {
        let matrix = &fused[layer * tokens * row..][..tokens * row];
        let last = layer + 1 == shape.layers;
        current = match (last, shape.pools_patches()) {
            (true, false) => first_row(shape, matrix, row),
            (true, true) => {
                let mut start = vec![0.0; tokens];
                start[shape.prefix..].fill(1.0 / (tokens - shape.prefix) as f32);
                next_row(instructions, shape.head_fusion, &start, matrix, row)
            }
            (false, _) => next_row(instructions, shape.head_fusion, &current, matrix, row),
        };
        // One, or two to the number of blocks, but for rounding.
        let total: f32 = current.iter().sum();
        let out = &mut by_start[layer * tokens..][..tokens];
        for (out, value) in out.iter_mut().zip(&current) {
            *out = value / total;
        }
    }
}

/// The mean of the rows that the classifier reads.
fn first_row(shape: &EncoderShape, matrix: &[f32], row: usize) -> Vec<f32> {
    let tokens = shape.tokens();
    let mut mean = vec![0.0; tokens];
    for (read, values) in matrix.chunks_exact(row).take(shape.read).enumerate() {
        let values = &values[..tokens];
        let total = match shape.head_fusion {
            HeadFusion::Mean => 1.0,
            HeadFusion::Max | HeadFusion::Min => values.iter().sum::<f32>() + 1.0,
        };
        let weight = 1.0 / (total * shape.read as f32);
        mean[read] += weight;
        for (mean, value) in mean.iter_mut().zip(values) {
            *mean += value * weight;
        }
    }
    mean
}

/// r·(A + I), the rows of A + I divided by their sums where these are not two.
fn next_row(
    instructions: &dyn Instructions,
    fusion: HeadFusion,
    current: &[f32],
    matrix: &[f32],
    row: usize,
) -> Vec<f32> {
    let tokens = current.len();
    let mut next = vec![0.0; tokens];
    for (query, (weight, values)) in current.iter().zip(matrix.chunks_exact(row)).enumerate() {
        let values = &values[..tokens];
        let weight = match fusion {
            HeadFusion::Mean => *weight,
            HeadFusion::Max | HeadFusion::Min => weight / (values.iter().sum::<f32>() + 1.0),
        };
        next[query] += weight;
        instructions.add_weighted(weight, values, &mut next);
    }
    next
}
