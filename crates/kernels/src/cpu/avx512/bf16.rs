//! Products of bfloat16 by `vdpbf16ps`: two inputs at a time, added up in float32; of layers, and of
//! attention's blocks.

use std::{arch::x86_64::*, ops::Range};

use super::{
    block::{Bf16Product, Block, RIGHT_ROW, TILE_ROWS},
    int8::{next_panel, prefetch},
    tile::{Sink, tiles_before},
};
use crate::cpu::{
    rounding::{Quantized, Rounding},
    weights::{HALF_PANEL, Linear, PAIR, PANEL, panel_len},
};

/// Some panels of a linear layer of tokens in bfloat16, panel after panel as in
/// [`int8`](super::int8::multiply).
///
/// # Safety
/// The sink must be made for the layer, and no other thread may compute these panels for it.
///
/// # Panics
/// If the sink is for another number of rows, or they are shorter than the layer's inputs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
pub(super) unsafe fn multiply(
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &[i8],
    panels: Range<usize>,
    sink: Sink<'_>,
) {
    let rows = tokens.scale.len();
    let row_len = layer.inputs.next_multiple_of(PAIR) * Rounding::Bf16.size();
    assert!(rows == sink.rows() && row_len <= tokens.stride);
    assert!(tokens.bytes.len() >= rows * tokens.stride);
    let len = panel_len(layer.inputs * Rounding::Bf16.size());
    let end = panels.end;
    for panel in panels {
        let next = match panel + 1 < end {
            true => next_panel(len, kernel, panel),
            false => &[],
        };
        let panel = Panel {
            tokens,
            weights: &kernel[panel * len..][..len],
            bias: &layer.bias[panel * PANEL..][..PANEL],
            pairs: layer.inputs.div_ceil(PAIR),
            first_channel: panel * PANEL,
            sink,
        };
        for ((first, count), next) in tiles_before(rows, next) {
            prefetch(next);
            // SAFETY: the tile's rows exist, and lengths were checked above; the sink is this
            // thread's for the panel.
            unsafe {
                match count {
                    1 => panel.multiply::<1>(first),
                    2 => panel.multiply::<2>(first),
                    3 => panel.multiply::<3>(first),
                    4 => panel.multiply::<4>(first),
                    5 => panel.multiply::<5>(first),
                    _ => panel.multiply::<6>(first),
                }
            }
        }
    }
}

/// One panel of a layer, what is multiplied with it, and where results go.
struct Panel<'a> {
    tokens: Quantized<'a>,
    /// `[half][pair of inputs][channel][input of the pair]`.
    weights: &'a [i8],
    bias: &'a [f32],
    pairs: usize,
    first_channel: usize,
    sink: Sink<'a>,
}

impl Panel<'_> {
    /// # Safety
    /// `ROWS` rows from `first` on must be among the tokens and have the pairs, and each half of
    /// the weights too; the sink must have the rows and the panel, which no other thread may put.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    unsafe fn multiply<const ROWS: usize>(&self, first: usize) {
        let mut sums = [[_mm512_setzero_ps(); 4]; ROWS];
        let rows = self.tokens.bytes[first * self.tokens.stride..].as_ptr();
        let weights = self.weights.as_ptr();
        for pair in 0..self.pairs {
            // SAFETY: by this function's contract.
            let weights: [__m512bh; 4] = std::array::from_fn(|vector| unsafe {
                let half = weights.add(vector / 2 * self.weights.len() / 2);
                let at = half.add((pair * HALF_PANEL + vector % 2 * 16) * 4);
                pairs(_mm512_loadu_si512(at.cast()))
            });
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let bytes = unsafe {
                    let at = rows.add(row * self.tokens.stride + pair * 4);
                    at.cast::<i32>().read_unaligned()
                };
                let values = pairs(_mm512_set1_epi32(bytes));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbf16_ps(*sum, values, weights);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let bias = self.bias.as_ptr();
            // SAFETY: the bias has a panel's four vectors.
            let results = std::array::from_fn(|vector| unsafe {
                _mm512_add_ps(sums[vector], _mm512_loadu_ps(bias.add(vector * 16)))
            });
            // SAFETY: by this function's contract.
            unsafe { self.sink.put::<4>(first + row, self.first_channel, results) };
        }
    }
}

/// Multiplies blocks by vectors of 32 columns.
///
/// A value exists only where the processor has the instructions.
pub(super) struct Vectors {
    _there: (),
}

impl Vectors {
    /// # Safety
    /// The processor must have AVX-512 with bfloat16.
    pub(super) unsafe fn new() -> Self {
        Self { _there: () }
    }
}

/// Rows of a block that are multiplied at once: with two vectors of sums each, enough of them to
/// hide an instruction's latency.
const BLOCK_ROWS: usize = 8;

impl Bf16Product for Vectors {
    unsafe fn multiply_bf16(&self, block: Block) {
        for first in (0..block.rows).step_by(BLOCK_ROWS) {
            // SAFETY: by this method's contract, and the processor has the instructions.
            unsafe {
                match block.rows - first {
                    1 => rows_of_block::<1>(block, first),
                    2 => rows_of_block::<2>(block, first),
                    3 => rows_of_block::<3>(block, first),
                    4 => rows_of_block::<4>(block, first),
                    5 => rows_of_block::<5>(block, first),
                    6 => rows_of_block::<6>(block, first),
                    7 => rows_of_block::<7>(block, first),
                    _ => rows_of_block::<BLOCK_ROWS>(block, first),
                }
            }
        }
    }
}

/// # Safety
/// As of [`Bf16Product::multiply_bf16`]; the block must have `ROWS` rows from `first` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows_of_block<const ROWS: usize>(block: Block, first: usize) {
    let left = block.left.wrapping_add(first * block.left_stride);
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for pair in 0..block.steps * TILE_ROWS {
        // SAFETY: by this function's contract: a row of the right factor for each pair, and its
        // four bytes in each row of the left one.
        unsafe {
            let right = block.right.add(pair * RIGHT_ROW);
            let right = [0, 64].map(|at| pairs(_mm512_loadu_si512(right.add(at).cast())));
            for (row, sums) in sums.iter_mut().enumerate() {
                let at = left.add(row * block.left_stride + pair * 4);
                let values = pairs(_mm512_set1_epi32(at.cast::<i32>().read_unaligned()));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_dpbf16_ps(*sum, values, right);
                }
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        // SAFETY: there is room for the row's 32 sums.
        unsafe {
            let out = block
                .sums
                .add((first + row) * block.sums_stride)
                .cast::<f32>();
            _mm512_storeu_ps(out, sums[0]);
            _mm512_storeu_ps(out.add(16), sums[1]);
        }
    }
}

/// Sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: any bits are a vector.
    unsafe { std::mem::transmute(bits) }
}
