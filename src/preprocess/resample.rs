//! Resizing with Pillow's 8-bit arithmetic, to the last bit.
//!
//! The algorithm is that of Pillow up to 12.1 (`src/libImaging/Resample.c`), the version the goldens
//! pin; Pillow 13 takes the vertical pass first for some shapes, which rounds differently. Weights in f64, normalised,
//! then fixed point with 22 fractional bits; a horizontal pass with its result rounded and clipped
//! to bytes, then a vertical pass over that. The clipping between the passes is why a resize in
//! floating point differs by up to 13 levels on hard edges with bicubic. A pass whose size does
//! not change is left out.
//!
//! A crop after the resize is folded in: only the wanted pixels are computed, with the same values.

use std::ops::Range;

use super::Filter;
use crate::decode::Rgb8;

/// Fractional bits of a weight: 32, less 8 for the sample and 2 for overshoot.
const FRACTION_BITS: u32 = 32 - 8 - 2;
/// One half in the accumulator: rounds the shift at the end.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Along one axis: which input samples each wanted output sample mixes, and with what weights.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    input: usize,
    identity: bool,
    windows: Vec<Window>,
    /// The windows' weights, one after the other; none where the size does not change.
    weights: Vec<i32>,
}

/// The input samples of one output sample.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: usize,
    len: usize,
    /// Where its weights start.
    weights: usize,
}

impl Axis {
    /// For resizing `input` samples to `output` of which only `wanted` are kept.
    ///
    /// `wanted` is a non-empty part of `0..output`; neither size is 0.
    pub(super) fn new(filter: Filter, input: u32, output: u32, wanted: Range<u32>) -> Self {
        let mut axis = Self {
            input: input as usize,
            identity: input == output,
            windows: Vec::with_capacity(wanted.len()),
            weights: Vec::new(),
        };
        if axis.identity {
            axis.windows.extend(wanted.map(|index| Window {
                start: index as usize,
                len: 1,
                weights: 0,
            }));
            return axis;
        }
        let scale = f64::from(input) / f64::from(output);
        let kernel = Kernel::new(filter, scale);
        let mut exact = Vec::new();
        for index in wanted {
            let center = (f64::from(index) + 0.5) * scale;
            let samples = kernel.samples(center, input);
            exact.clear();
            exact.extend(samples.clone().map(|sample| kernel.weight(sample, center)));
            axis.windows.push(Window {
                start: samples.start as usize,
                len: samples.len(),
                weights: axis.weights.len(),
            });
            let sum: f64 = exact.iter().sum();
            axis.weights.extend(
                exact
                    .iter()
                    .map(|&weight| fixed_point(if sum == 0.0 { weight } else { weight / sum })),
            );
        }
        axis
    }

    /// How many samples come out.
    fn len(&self) -> usize {
        self.windows.len()
    }

    /// The input samples that any output needs.
    fn needed(&self) -> Range<usize> {
        let start = self.windows.iter().map(|window| window.start).min();
        let end = self
            .windows
            .iter()
            .map(|window| window.start + window.len)
            .max();
        start.unwrap_or(0)..end.unwrap_or(0)
    }

    fn weights_of(&self, window: &Window) -> &[i32] {
        &self.weights[window.weights..window.weights + window.len]
    }
}

/// A filter stretched to one scale.
struct Kernel {
    filter: Filter,
    /// Half its width, in input samples.
    support: f64,
    inverse_stretch: f64,
}

impl Kernel {
    fn new(filter: Filter, scale: f64) -> Self {
        // Enlarging interpolates; only reducing widens the filter.
        let stretch = scale.max(1.0);
        let support = match filter {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        };
        Self {
            filter,
            support: support * stretch,
            inverse_stretch: 1.0 / stretch,
        }
    }

    /// The samples under the filter at `center`. `as` truncates and saturates at 0, as needed.
    fn samples(&self, center: f64, input: u32) -> Range<u32> {
        let start = (center - self.support + 0.5) as u32;
        let end = (center + self.support + 0.5) as u32;
        start..end.min(input)
    }

    fn weight(&self, sample: u32, center: f64) -> f64 {
        let x = (f64::from(sample) - center + 0.5) * self.inverse_stretch;
        match self.filter {
            Filter::Bilinear => bilinear(x),
            Filter::Bicubic => bicubic(x),
            Filter::Lanczos => lanczos(x),
        }
    }
}

/// Resizes along both axes; returns interleaved RGB of `vertical.len()` rows.
pub(super) fn resize(picture: &Rgb8, horizontal: &Axis, vertical: &Axis) -> Vec<u8> {
    let rows = vertical.needed();
    let stride = 3 * horizontal.input;
    let source = &picture.pixels()[rows.start * stride..rows.end * stride];
    let width = 3 * horizontal.len();
    let mut narrow = vec![0; rows.len() * width];
    for (line, out) in source
        .chunks_exact(stride)
        .zip(narrow.chunks_exact_mut(width))
    {
        resize_row(line, horizontal, out);
    }
    if vertical.identity {
        return narrow;
    }
    let mut out = vec![0; vertical.len() * width];
    let mut sums = vec![0; width];
    for (window, line) in vertical.windows.iter().zip(out.chunks_exact_mut(width)) {
        let first = (window.start - rows.start) * width;
        mix_rows(
            &narrow[first..],
            vertical.weights_of(window),
            &mut sums,
            line,
        );
    }
    out
}

/// The horizontal pass over one row.
fn resize_row(row: &[u8], axis: &Axis, out: &mut [u8]) {
    if axis.identity {
        let needed = axis.needed();
        out.copy_from_slice(&row[3 * needed.start..3 * needed.end]);
        return;
    }
    let (pixels, _) = row.as_chunks::<3>();
    let (out, _) = out.as_chunks_mut::<3>();
    for (window, pixel) in axis.windows.iter().zip(out) {
        let samples = &pixels[window.start..window.start + window.len];
        let mut sums = [HALF; 3];
        for (sample, &weight) in samples.iter().zip(axis.weights_of(window)) {
            for channel in 0..3 {
                sums[channel] += i32::from(sample[channel]) * weight;
            }
        }
        *pixel = sums.map(to_byte);
    }
}

/// The vertical pass for one output row: `rows` begins with the first row that is mixed.
fn mix_rows(rows: &[u8], weights: &[i32], sums: &mut [i32], out: &mut [u8]) {
    sums.fill(HALF);
    for (row, &weight) in rows.chunks_exact(out.len()).zip(weights) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += i32::from(value) * weight;
        }
    }
    for (byte, &sum) in out.iter_mut().zip(sums.iter()) {
        *byte = to_byte(sum);
    }
}

fn to_byte(sum: i32) -> u8 {
    // Clamped to the range of a byte, so the cast keeps the value.
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// Rounds half away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << FRACTION_BITS);
    // `as` truncates toward zero.
    (if scaled < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}

fn bilinear(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic with a = −0.5, in the reference's order of operations.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// A sinc windowed by a sinc three times as wide.
fn lanczos(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) {
        sinc(x) * sinc(x / 3.0)
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

#[cfg(test)]
mod tests;
