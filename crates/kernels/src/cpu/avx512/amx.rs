//! Products of bytes by AMX: tiles of sixteen rows of 64 bytes, of which one instruction multiplies
//! two and adds up in 32 bits.
//!
//! A block of 32 tokens by 32 output channels keeps four tiles of sums for the whole length of the
//! inputs. Half a panel's weights stay in the first cache while all tokens pass; sums go through a
//! small buffer to the same end as those of VNNI, so results have the same bits.

pub(super) mod attention;
mod tiles;

pub(super) use self::tiles::is_usable;

use std::{arch::x86_64::*, ops::Range};

use self::tiles::{Amx, Block, TILE_ROWS, TileUnit};
use super::{
    int8::{self, Panel},
    tile::Sink,
};
use crate::cpu::{
    aligned::{Aligned, LINE},
    instructions::Quantized,
    weights::{HALF_PANEL, INPUT_MULTIPLE, Int8Kernel, Linear, panel_len},
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
    let rows = tokens.scale.len();
    assert_eq!(rows, sink.rows());
    let stride = tokens.stride;
    let steps = layer.inputs.div_ceil(INPUT_MULTIPLE);
    assert!(steps * INPUT_MULTIPLE <= stride && tokens.bytes.len() >= rows * stride);
    // Tiles are read in full, and what follows the last row is another thread's.
    let whole = rows / BLOCK_ROWS * BLOCK_ROWS;
    let left = rows - whole;
    let mut tail = Aligned::<u8>::zeroed(left.next_multiple_of(TILE_ROWS) * stride);
    tail[..left * stride].copy_from_slice(&tokens.bytes[whole * stride..rows * stride]);
    let blocks = rows.div_ceil(BLOCK_ROWS);
    let half_len = panel_len(layer.inputs) / 2;
    let mut sums = Aligned::<i32>::zeroed(BLOCK_ROWS * HALF_PANEL);
    let kernel_of_panels = &kernel.values[..2 * panels.end * half_len];
    for (panel, half) in panels.flat_map(|panel| [(panel, 0), (panel, 1)]) {
        let start = (2 * panel + half) * half_len;
        let (weights, following) = kernel_of_panels[start..].split_at(half_len);
        let following = &following[..following.len().min(half_len)];
        let mut coming = following.chunks(half_len.div_ceil(blocks * LINE) * LINE);
        let panel = Panel::new(tokens, layer, kernel, panel, sink);
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let source = match first < whole {
                true => tokens.bytes[first * stride..].as_ptr(),
                false => tail.as_ptr(),
            };
            let next = coming.next().unwrap_or_default();
            let sums = &mut *sums;
            // SAFETY: a whole block of the tokens, or the tail, which is filled up to whole tiles,
            // has the rows and inputs; half a panel has whole steps of weights; the buffer has a
            // block's rows.
            unsafe {
                let block = Block {
                    left: source,
                    left_stride: stride,
                    right: weights.as_ptr().cast(),
                    steps,
                    sums: sums.as_mut_ptr().cast(),
                    sums_stride: HALF_PANEL * size_of::<i32>(),
                };
                match rows - first <= TILE_ROWS {
                    true => unit.multiply_bytes::<1>(block, next),
                    false => unit.multiply_bytes::<2>(block, next),
                }
            }
            let block = sums.chunks_exact(HALF_PANEL).take(rows - first);
            for (row, sums) in block.enumerate() {
                // SAFETY: a row of sums has two vectors; the row is among the tokens.
                unsafe {
                    let sums = [0, 16].map(|at| _mm512_loadu_si512(sums.as_ptr().add(at).cast()));
                    panel.finish(first + row, 2 * half, sums);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
