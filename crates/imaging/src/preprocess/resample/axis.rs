//! Along one axis: which input samples each output sample mixes, and with what weights.

use std::ops::Range;

use crate::preprocess::Filter;

/// Fractional bits of a weight: 32, less 8 for the sample and 2 for overshoot.
pub(super) const FRACTION_BITS: u32 = 32 - 8 - 2;
/// One half in the accumulator: rounds the shift at the end.
pub(super) const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// Which input samples each wanted output sample mixes, and with what weights.
#[derive(Clone, Debug)]
pub(in crate::preprocess) struct Axis {
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
    #[cfg(test)]
    pub(in crate::preprocess) fn new(
        filter: Filter,
        input: u32,
        output: u32,
        wanted: Range<u32>,
    ) -> Self {
        Self::of_part(filter, input, f64::from(input), output, wanted)
    }

    /// The same where only the first `extent` of the samples stand for the picture: the last one
    /// of a reduced decode may lie over its edge. Pillow calls this `box`.
    pub(in crate::preprocess) fn of_part(
        filter: Filter,
        input: u32,
        extent: f64,
        output: u32,
        wanted: Range<u32>,
    ) -> Self {
        let mut axis = Self {
            input: input as usize,
            identity: extent == f64::from(output) && input == output,
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

    /// How many samples go in.
    pub(super) fn input(&self) -> usize {
        self.input
    }

    /// How many samples come out.
    pub(super) fn len(&self) -> usize {
        self.windows.len()
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
