//! Area-averaged downscaling for previews. Not the resampler that the model's input needs.

use crate::explain::{Raster, RgbView};

/// Weights of an output pixel add up to this, so that a weighted sum of bytes fits 16 bits.
const UNIT: u16 = 256;

/// Bytes that are summed down the rows at once: few enough to stay in registers.
const BLOCK: usize = 64;

/// The input pixels that fall on one output pixel, and how much of it each covers.
struct Span {
    first: usize,
    weights: Vec<u16>,
}

/// Every pixel of the result is the mean over its area. `size` is not larger than the image.
pub(super) fn shrink(image: RgbView<'_>, size: (u32, u32)) -> Raster {
    let (width, height) = image.size();
    let across = spans(width, size.0);
    let down = spans(height, size.1);
    let stride = width as usize * 3;

    let mut result = Raster::filled(size, [0; 3]);
    // One more than a row, for the last pixel's fourth lane.
    let mut sums = vec![0.0; stride + 1];
    for (y, span) in (0..).zip(&down) {
        let rows = &image.pixels()[span.first * stride..];
        sum_rows(rows, stride, &span.weights, &mut sums[..stride]);
        average_row(&sums, &across, result.row_mut(y));
    }
    result
}

/// The weighted sum of as many rows as there are weights. Whole numbers, as f32 because that is
/// what [`average_row`] multiplies fastest.
fn sum_rows(rows: &[u8], stride: usize, weights: &[u16], sums: &mut [f32]) {
    let mut blocks = sums.chunks_exact_mut(BLOCK);
    for (index, block) in blocks.by_ref().enumerate() {
        // A constant length, so that the totals need no memory.
        let mut totals = [0; BLOCK];
        for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
            add_weighted(&mut totals, &row[index * BLOCK..][..BLOCK], weight);
        }
        for (sum, total) in block.iter_mut().zip(totals) {
            *sum = f32::from(total);
        }
    }
    let rest = blocks.into_remainder();
    let mut totals = [0; BLOCK];
    for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
        add_weighted(&mut totals, &row[stride - rest.len()..], weight);
    }
    for (sum, total) in rest.iter_mut().zip(totals) {
        *sum = f32::from(total);
    }
}

fn add_weighted(totals: &mut [u16; BLOCK], bytes: &[u8], weight: u16) {
    for (total, &byte) in totals.iter_mut().zip(bytes) {
        // The weights add up to 256, so this stays within 256 · 255.
        *total += u16::from(byte) * weight;
    }
}

/// The mean over each span of a row of sums. Works on four lanes, of which the fourth belongs to
/// the next pixel and is dropped. All numbers are whole and below 2²⁴, so f32 is exact here.
fn average_row(sums: &[f32], across: &[Span], row: &mut [u8]) {
    let scale = 1.0 / (f32::from(UNIT) * f32::from(UNIT));
    for (pixel, span) in row.chunks_exact_mut(3).zip(across) {
        let mut totals = [0.0; 4];
        let mut at = span.first * 3;
        for &weight in &span.weights {
            let weight = f32::from(weight);
            for (total, sum) in totals.iter_mut().zip(&sums[at..at + 4]) {
                *total += sum * weight;
            }
            at += 3;
        }
        for (byte, total) in pixel.iter_mut().zip(totals) {
            *byte = (total * scale + 0.5) as u8;
        }
    }
}

/// How `from` pixels fall on `to`, in 256ths; cumulative rounding makes every sum exact.
fn spans(from: u32, to: u32) -> Vec<Span> {
    let (from, to) = (u64::from(from), u64::from(to));
    let span = |index: u64| {
        // In units of 1/to of an input pixel, an output pixel spans `from` of them.
        let (start, end) = (index * from, (index + 1) * from);
        let (first, last) = (start / to, (end - 1) / to);
        let covered = |until: u64| {
            let part = until.clamp(start, end) - start;
            (part * u64::from(UNIT) + from / 2) / from
        };
        let weights = (first..=last)
            .map(|input| (covered((input + 1) * to) - covered(input * to)) as u16)
            .collect();
        Span {
            first: first as usize,
            weights,
        }
    };
    (0..to).map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_factor_gives_the_mean_of_each_block() {
        // 4 × 2 → 2 × 1.
        let grey = [0, 10, 100, 100, 20, 30, 100, 104];
        let pixels: Vec<u8> = grey.iter().flat_map(|&v| [v, v, 255 - v]).collect();
        let small = shrink(RgbView::new(4, 2, &pixels).unwrap(), (2, 1));
        assert_eq!(small.pixels(), [15, 15, 240, 101, 101, 154]);
    }

    #[test]
    fn a_broken_factor_weighs_by_covered_area() {
        // 3 → 2: one and a half pixels each.
        let pixels = [[0; 3], [90; 3], [180; 3]].concat();
        let small = shrink(RgbView::new(3, 1, &pixels).unwrap(), (2, 1));
        assert_eq!(small.pixels(), [[30; 3], [150; 3]].concat());
    }

    #[test]
    fn white_stays_white_at_every_factor() {
        for from in [1, 2, 3, 7, 100, 255, 256, 257, 1000, 5000] {
            for to in [1, 2, 3, 64].into_iter().filter(|&to| to <= from) {
                let pixels = vec![255; from as usize * 3];
                let small = shrink(RgbView::new(from, 1, &pixels).unwrap(), (to, 1));
                assert!(small.pixels().iter().all(|&v| v == 255), "{from} → {to}");
                let small = shrink(RgbView::new(1, from, &pixels).unwrap(), (1, to));
                assert!(small.pixels().iter().all(|&v| v == 255), "{from} ↓ {to}");
            }
        }
    }
}
