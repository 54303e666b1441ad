//! Resizing with Pillow's or torchvision's 8-bit arithmetic, to the last bit.
//!
//! The algorithm is that of Pillow up to 12.1 (`src/libImaging/Resample.c`), the version the goldens
//! pin; Pillow 13 takes the vertical pass first for some shapes, which rounds differently. torch took it
//! over (`aten/src/ATen/native/cpu/UpSampleKernel.cpp`), with coarser weights. Weights
//! in f64, normalised, then in fixed point ([`Axis`]); a horizontal pass with
//! its result rounded and clipped to bytes, then a vertical pass over that. The clipping between the
//! passes is why a resize in floating point differs by up to 13 levels on hard edges with bicubic.
//! A pass whose size does not change is left out.
//!
//! A crop after the resize is folded in: only the wanted pixels are computed, with the same values.
//!
//! The loops are plain Rust that the compiler vectorises, compiled once for each instruction set
//! and chosen at run time. Integer sums do not depend on their order, so every one of them gives
//! the same bytes.

mod axis;

use fearless_simd::{Level, Simd, dispatch};

pub(super) use self::axis::Axis;
use crate::decode::Rgb8;

/// Rows that the horizontal pass takes together: a row of lanes for each colour of a column.
const TOGETHER: usize = 8;

/// Resizes along both axes; returns interleaved RGB of `vertical.len()` rows.
pub(super) fn resize(picture: &Rgb8, horizontal: &Axis, vertical: &Axis) -> Vec<u8> {
    dispatch!(Level::new(), simd => simd.vectorize(
        #[inline(always)]
        || both_passes(picture, horizontal, vertical)
    ))
}

#[inline(always)]
fn both_passes(picture: &Rgb8, horizontal: &Axis, vertical: &Axis) -> Vec<u8> {
    let rows = vertical.needed();
    let stride = 3 * horizontal.input();
    let source = &picture.pixels()[rows.start * stride..rows.end * stride];
    let narrow = narrowed(source, horizontal);
    if vertical.is_identity() {
        return narrow;
    }
    let width = 3 * horizontal.len();
    let mut out = vec![0; vertical.len() * width];
    let mut sums = vec![0; width];
    for ((start, weights), line) in vertical.windows().zip(out.chunks_exact_mut(width)) {
        mix_rows(
            &narrow[(start - rows.start) * width..],
            weights,
            vertical.fraction_bits(),
            &mut sums,
            line,
        );
    }
    out
}

/// The horizontal pass over all rows of `source`.
#[inline(always)]
fn narrowed(source: &[u8], axis: &Axis) -> Vec<u8> {
    let stride = 3 * axis.input();
    let width = 3 * axis.len();
    let rows = source.len() / stride;
    let mut out = vec![0; rows * width];
    if axis.is_identity() {
        let needed = 3 * axis.needed().start..3 * axis.needed().end;
        for (row, out) in source.chunks_exact(stride).zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(&row[needed.clone()]);
        }
        return out;
    }
    // Past the end, the last row stands in for those that are missing; what it gives is not kept.
    let mut columns = vec![[0; TOGETHER]; stride];
    for (block, out) in source
        .chunks(TOGETHER * stride)
        .zip(out.chunks_mut(TOGETHER * width))
    {
        let last = block.len() / stride - 1;
        let lines: [&[u8]; TOGETHER] =
            std::array::from_fn(|row| &block[row.min(last) * stride..][..stride]);
        for (at, column) in columns.iter_mut().enumerate() {
            *column = std::array::from_fn(|row| lines[row][at]);
        }
        mix_columns(&columns, axis, out);
    }
    out
}

/// The horizontal pass over a block of rows, turned so that what lies in a column lies together.
#[inline(always)]
fn mix_columns(columns: &[[u8; TOGETHER]], axis: &Axis, out: &mut [u8]) {
    let width = 3 * axis.len();
    let bits = axis.fraction_bits();
    let (columns, _) = columns.as_chunks::<3>();
    for (at, (start, weights)) in axis.windows().enumerate() {
        let mut sums = [[1 << (bits - 1); TOGETHER]; 3];
        for (column, &weight) in columns[start..].iter().zip(weights) {
            for (sums, values) in sums.iter_mut().zip(column) {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += i32::from(value) * weight;
                }
            }
        }
        for (row, line) in out.chunks_exact_mut(width).enumerate() {
            for (channel, sums) in sums.iter().enumerate() {
                line[3 * at + channel] = to_byte(sums[row], bits);
            }
        }
    }
}

/// The vertical pass for one output row: `rows` begins with the first row that is mixed.
#[inline(always)]
fn mix_rows(rows: &[u8], weights: &[i32], bits: u32, sums: &mut [i32], out: &mut [u8]) {
    sums.fill(1 << (bits - 1));
    for (row, &weight) in rows.chunks_exact(out.len()).zip(weights) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += i32::from(value) * weight;
        }
    }
    for (byte, &sum) in out.iter_mut().zip(sums.iter()) {
        *byte = to_byte(sum, bits);
    }
}

/// Sums begin at one half, so the shift rounds.
#[inline(always)]
fn to_byte(sum: i32, bits: u32) -> u8 {
    // Clamped to the range of a byte, so the cast keeps the value.
    (sum >> bits).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests;
