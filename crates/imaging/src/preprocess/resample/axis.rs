//! Along one axis: which input samples each output sample mixes, and with what weights.

use std::ops::Range;

use crate::preprocess::{Backend, Filter};

/// Fractional bits of a weight for Pillow: 32, less 8 for the sample and 2 for overshoot.
pub(super) const PILLOW_BITS: u32 = 32 - 8 - 2;

/// Which input samples each wanted output sample mixes, and with what weights.
#[derive(Clone, Debug)]
pub(in crate::preprocess) struct Axis {
    input: usize,
    identity: bool,
    /// Fractional bits of a weight.
    fraction_bits: u32,
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
    #[cfg(test)]
    pub(in crate::preprocess) fn new(
        filter: Filter,
        input: u32,
        output: u32,
        wanted: Range<u32>,
    ) -> Self {
        Self::of_part(
            filter,
            Backend::Pillow,
            input,
            f64::from(input),
            output,
            wanted,
        )
    }

    /// The same where only the first `extent` of the samples stand for the image: the last one
    /// of a reduced decode may lie over its edge. Pillow calls this `box`.
    pub(in crate::preprocess) fn of_part(
        filter: Filter,
        backend: Backend,
        input: u32,
        extent: f64,
        output: u32,
        wanted: Range<u32>,
    ) -> Self {
        let mut axis = Self {
            input: input as usize,
            identity: extent == f64::from(output) && input == output,
            fraction_bits: PILLOW_BITS,
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
        let scale = extent / f64::from(output);
        if filter == Filter::Nearest {
            axis.take_nearest(backend, extent, output, wanted);
            return axis;
        }
        let kernel = Kernel::new(filter, scale);
        let mut exact = Vec::new();
        if backend == Backend::Torchvision {
            // Of all windows, kept or not: all have the same number of bits.
            let mut largest = 0.0_f64;
            for index in 0..output {
                kernel.window(index, scale, input, &mut exact);
                largest = exact.iter().copied().fold(largest, f64::max);
            }
            axis.fraction_bits = torch_bits(largest);
        }
        for index in wanted {
            let samples = kernel.window(index, scale, input, &mut exact);
            axis.windows.push(Window {
                start: samples.start as usize,
                len: samples.len(),
                weights: axis.weights.len(),
            });
            let bits = axis.fraction_bits;
            axis.weights
                .extend(exact.iter().map(|&weight| fixed_point(weight, bits)));
        }
        axis
    }

    /// One sample for each wanted output. Pillow adds the scale up from sample to sample; torch
    /// multiplies, in float32 ("nearest-exact").
    fn take_nearest(&mut self, backend: Backend, extent: f64, output: u32, wanted: Range<u32>) {
        let scale = extent / f64::from(output);
        let last = self.input - 1;
        let one = 1 << self.fraction_bits;
        let mut at = scale * 0.5;
        for index in 0..output {
            let start = match backend {
                Backend::Pillow => at as usize,
                Backend::Torchvision => ((index as f32 + 0.5) * scale as f32) as usize,
            };
            at += scale;
            if wanted.contains(&index) {
                self.windows.push(Window {
                    start: start.min(last),
                    len: 1,
                    weights: self.weights.len(),
                });
                self.weights.push(one);
            }
        }
    }

    /// How many samples go in.
    pub(super) fn input(&self) -> usize {
        self.input
    }

    /// How many samples come out.
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    /// Fractional bits of a weight.
    pub(super) fn fraction_bits(&self) -> u32 {
        self.fraction_bits
    }

    /// Whether the samples stay as they are, but for those that are not wanted.
    pub(super) fn is_identity(&self) -> bool {
        self.identity
    }

    /// For each output sample the first input sample and the weights from there; meaningless where
    /// the size does not change.
    pub(super) fn windows(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.windows
            .iter()
            .map(|window| (window.start, self.weights_of(window)))
    }

    /// The input samples that any output needs.
    pub(super) fn needed(&self) -> Range<usize> {
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
            // Not asked for.
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Hamming | Filter::Bilinear => 1.0,
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

    /// The samples that an output mixes; `weights` becomes how much of each, together 1.
    fn window(&self, index: u32, scale: f64, input: u32, weights: &mut Vec<f64>) -> Range<u32> {
        let center = (f64::from(index) + 0.5) * scale;
        let samples = self.samples(center, input);
        weights.clear();
        weights.extend(samples.clone().map(|sample| self.weight(sample, center)));
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        samples
    }

    fn weight(&self, sample: u32, center: f64) -> f64 {
        let x = (f64::from(sample) - center + 0.5) * self.inverse_stretch;
        match self.filter {
            Filter::Nearest | Filter::Box => boxed(x),
            Filter::Hamming => hamming(x),
            Filter::Bilinear => bilinear(x),
            Filter::Bicubic => bicubic(x),
            Filter::Lanczos => lanczos(x),
        }
    }
}

/// As many fractional bits as leave the largest weight below 2¹⁵, and 22 at most: torch multiplies
/// numbers of 16 bits.
fn torch_bits(largest: f64) -> u32 {
    const MAX_BITS: u32 = 22;
    let fits = |bits: &u32| 0.5 + largest * f64::from(1 << bits) < f64::from(1 << 15);
    (1..=MAX_BITS).take_while(fits).last().unwrap_or(1)
}

/// Rounds half away from zero.
fn fixed_point(weight: f64, bits: u32) -> i32 {
    let scaled = weight * f64::from(1 << bits);
    // `as` truncates toward zero.
    (if scaled < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}

/// One weight for all that lies under it; of two edges, the farther one belongs to it.
fn boxed(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

/// A sinc under a raised cosine.
fn hamming(x: f64) -> f64 {
    let x = x.abs();
    if x == 0.0 {
        return 1.0;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x * (0.54 + 0.46 * x.cos())
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
