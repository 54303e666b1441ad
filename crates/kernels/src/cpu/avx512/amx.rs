//! Products of bytes and of bfloat16 by AMX: tiles of sixteen rows of 64 bytes, of which one
//! instruction multiplies two and adds up in 32 bits.
//!
//! A block of 32 tokens by 32 output channels keeps four tiles of sums for the whole length of the
//! inputs. Half a panel's weights stay in the first cache while all tokens pass; sums go through a
//! small buffer to the same end as those of vectors. Integers' results have the same bits.

mod tiles;

pub(super) use self::tiles::is_usable;

use std::{arch::x86_64::*, ops::Range};

use self::tiles::{Amx, TileUnit};
use super::{
    attention,
    block::{Bf16Product, Block, TILE_ROWS},
    int8::{self, Panel},
    tile::Sink,
};
use crate::cpu::{
    aligned::{Aligned, LINE},
    instructions::{HeadFusion, HeadShape, KeysAndValues},
    rounding::INPUT_MULTIPLE,
    rounding::{Quantized, Rounding},
    weights::{HALF_PANEL, Int8Kernel, Linear, PANEL, panel_len},
};

/// Rows of a block.
const BLOCK_ROWS: usize = 2 * TILE_ROWS;

/// Fewer rows than this leave most of a tile empty.
const FEWEST_ROWS: usize = 7;

/// Some panels of a linear layer of tokens as integers.
///
/// # Safety
/// [`is_usable`] must have said so. The sink must be made for the layer, and no other thread may
/// compute these panels for it.
///
/// # Panics
/// If the sink is for another number of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply(
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &Int8Kernel,
    panels: Range<usize>,
    sink: Sink<'_>,
) {
    // SAFETY: by this function's contract.
    unsafe {
        if tokens.scale.len() < FEWEST_ROWS {
            return int8::multiply(tokens, layer, kernel, panels, sink);
        }
        let unit = Amx::configure();
        multiply_in_tiles(&unit, tokens, layer, kernel, panels, sink);
    }
}

/// The same in any tiles.
///
/// # Safety
/// As of [`multiply`], whatever the processor.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
unsafe fn multiply_in_tiles<T: TileUnit>(
    unit: &T,
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &Int8Kernel,
    panels: Range<usize>,
    sink: Sink<'_>,
) {
    assert_eq!(tokens.scale.len(), sink.rows());
    in_blocks(
        tokens,
        layer.inputs,
        &kernel.values,
        panels,
        |at, block, next| {
            // SAFETY: the block is whole; a row of sums has two vectors, and the row is among the
            // tokens. The sink is this thread's for the panel.
            unsafe {
                match at.rows.len() <= TILE_ROWS {
                    true => unit.multiply_bytes::<1>(block, next),
                    false => unit.multiply_bytes::<2>(block, next),
                }
                let panel = Panel::new(tokens, layer, kernel, at.panel, sink);
                for (row, sums) in at.rows.zip(block.rows_of_sums()) {
                    let sums = [0, 16].map(|at| _mm512_loadu_si512(sums.wrapping_add(at).cast()));
                    panel.finish(row, 2 * at.half, sums);
                }
            }
        },
    );
}

/// Some panels of a linear layer of tokens in bfloat16.
///
/// However few rows there are, they go through tiles: another instruction would round otherwise,
/// and a row's result must not depend on the others.
///
/// # Safety
/// As of [`multiply`].
///
/// # Panics
/// If the sink is for another number of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) unsafe fn multiply_bf16(
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &[i8],
    panels: Range<usize>,
    sink: Sink<'_>,
) {
    // SAFETY: by this function's contract.
    unsafe {
        let unit = Amx::configure();
        multiply_bf16_in_tiles(&unit, tokens, layer, kernel, panels, sink);
    }
}

/// The same in any tiles.
///
/// # Safety
/// As of [`multiply`], whatever the processor.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn multiply_bf16_in_tiles<T: Bf16Product>(
    unit: &T,
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &[i8],
    panels: Range<usize>,
    sink: Sink<'_>,
) {
    assert_eq!(tokens.scale.len(), sink.rows());
    let bytes = layer.inputs * Rounding::Bf16.size();
    in_blocks(tokens, bytes, kernel, panels, |at, block, next| {
        int8::prefetch(next);
        let channel = at.panel * PANEL + at.half * HALF_PANEL;
        let bias = layer.bias[channel..][..HALF_PANEL].as_ptr();
        // SAFETY: as of the bytes; the bias has the two vectors of half a panel.
        unsafe {
            unit.multiply_bf16(block);
            let bias = [0, 16].map(|at| _mm512_loadu_ps(bias.add(at)));
            for (row, sums) in at.rows.zip(block.rows_of_sums()) {
                let sums = [0, 16].map(|at| _mm512_loadu_ps(sums.wrapping_add(at).cast()));
                let results = [0, 1].map(|at| _mm512_add_ps(sums[at], bias[at]));
                sink.put::<2>(row, channel, results);
            }
        }
    });
}

/// Attention of some queries, `prepared` keys and values of all heads.
///
/// # Safety
/// [`is_usable`] must have said so.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
pub(super) unsafe fn attend(
    shape: HeadShape,
    queries: &[f32],
    prepared: KeysAndValues<'_>,
    mixed: &mut [f32],
    fused: Option<(&mut [f32], HeadFusion)>,
) {
    // SAFETY: by this function's contract.
    let unit = unsafe { Amx::configure() };
    attention::bf16::attend(&unit, shape, queries, prepared, mixed, fused);
}

/// Where a block of a product lies.
struct Place {
    rows: Range<usize>,
    panel: usize,
    half: usize,
}

/// Calls `run` for each block of up to 32 tokens by half a panel, with what the weights after this
/// half have in store for the block: an even share, worth having in the second cache soon.
///
/// # Panics
/// If rows are shorter than `input_bytes` filled up to whole tiles, or there are no such panels.
#[inline]
fn in_blocks(
    tokens: Quantized<'_>,
    input_bytes: usize,
    kernel: &[i8],
    panels: Range<usize>,
    mut run: impl FnMut(Place, Block, &[i8]),
) {
    let (rows, stride) = (tokens.scale.len(), tokens.stride);
    let steps = input_bytes.div_ceil(INPUT_MULTIPLE);
    assert!(steps * INPUT_MULTIPLE <= stride && tokens.bytes.len() >= rows * stride);
    // Tiles are read in full, and what follows the last row is another thread's.
    let whole = rows / BLOCK_ROWS * BLOCK_ROWS;
    let left = rows - whole;
    let mut tail = Aligned::<u8>::zeroed(if left > 0 { BLOCK_ROWS * stride } else { 0 });
    tail[..left * stride].copy_from_slice(&tokens.bytes[whole * stride..rows * stride]);
    let blocks = rows.div_ceil(BLOCK_ROWS).max(1);
    let half_len = panel_len(input_bytes) / 2;
    let mut sums = Aligned::<i32>::zeroed(BLOCK_ROWS * HALF_PANEL);
    let kernel = &kernel[..2 * panels.end * half_len];
    for (panel, half) in panels.flat_map(|panel| [(panel, 0), (panel, 1)]) {
        let start = (2 * panel + half) * half_len;
        let (weights, following) = kernel[start..].split_at(half_len);
        let following = &following[..following.len().min(half_len)];
        let mut coming = following.chunks(half_len.div_ceil(blocks * LINE) * LINE);
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let left = match first < whole {
                true => tokens.bytes[first * stride..].as_ptr(),
                false => tail.as_ptr(),
            };
            // A whole block of the tokens, or the tail, which is filled up to one; half a panel has
            // whole steps of weights; the buffer has a block's rows.
            let block = Block {
                left,
                left_stride: stride,
                rows: rows.min(first + BLOCK_ROWS) - first,
                right: weights.as_ptr().cast(),
                steps,
                sums: sums.as_mut_ptr().cast(),
                sums_stride: HALF_PANEL * size_of::<i32>(),
            };
            let place = Place {
                rows: first..rows.min(first + BLOCK_ROWS),
                panel,
                half,
            };
            run(place, block, coming.next().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests;
