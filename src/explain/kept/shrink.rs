//! Area-averaged downscaling for the kept copy. Not the resampler that the model's input needs.

use crate::explain::{Raster, RgbView};

/// Weights of an output pixel add up to this.
const UNIT: u32 = 256;

/// The input pixels that fall on one output pixel, and how much of it each covers.
struct Span {
    first: usize,
    weights: Vec<u16>,
}

/// Every pixel of the result is the mean over its area. `size` is not larger than the picture.
pub(super) fn shrink(picture: RgbView<'_>, size: (u32, u32)) -> Raster {
    let (width, height) = picture.size();
    let across = spans(width, size.0);
    let down = spans(height, size.1);
    let stride = width as usize * 3;

    let mut result = Raster::filled(size, [0; 3]);
    let mut sums = vec![0_u16; stride];
    for (y, span) in (0..).zip(&down) {
        sums.fill(0);
        let rows = picture.pixels()[span.first * stride..].chunks_exact(stride);
        for (row, &weight) in rows.zip(&span.weights) {
            for (sum, &byte) in sums.iter_mut().zip(row) {
                // The weights add up to 256, so the sum stays within 256 · 255.
                *sum += u16::from(byte) * weight;
            }
        }
        average_row(&sums, &across, result.row_mut(y));
    }
    result
}

fn average_row(sums: &[u16], across: &[Span], row: &mut [u8]) {
    for (pixel, span) in row.chunks_exact_mut(3).zip(across) {
        let mut total = [UNIT * UNIT / 2; 3];
        let covered = sums[span.first * 3..].chunks_exact(3);
        for (sum, &weight) in covered.zip(&span.weights) {
            for (total, &channel) in total.iter_mut().zip(sum) {
                *total += u32::from(channel) * u32::from(weight);
            }
        }
        for (byte, total) in pixel.iter_mut().zip(total) {
            // At most 255 · 2¹⁶ + 2¹⁵.
            *byte = (total >> 16) as u8;
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
