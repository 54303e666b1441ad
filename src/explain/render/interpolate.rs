//! The map as a scalar field over the region, sampled at pixels.

use std::ops::Range;

use crate::explain::{Grid, PatchMap, Scale, Smooth};

/// Positions on the colormap, one a patch. Between patches the *positions* are interpolated, not
/// the values, so colors and contour lines of one image agree and patch centres keep their own.
pub(super) struct ScalarField {
    grid: Grid,
    positions: Vec<f32>,
}

/// How the pixels of one axis fall on the patches of that axis.
pub(super) struct Axis {
    /// The pixels whose centres lie in the region and on the canvas.
    pub(super) inside: Range<u32>,
    /// For each of them, between which patches it lies.
    pub(super) taps: Vec<Tap>,
}

/// Between two neighbouring patches: `low` + `part` · (`high` − `low`).
#[derive(Clone, Copy)]
pub(super) struct Tap {
    low: usize,
    high: usize,
    part: f32,
}

impl ScalarField {
    pub(super) fn new(map: &PatchMap, scale: Scale) -> Self {
        Self {
            grid: map.grid(),
            positions: map.values().iter().map(|&v| scale.position(v)).collect(),
        }
    }

    pub(super) fn grid(&self) -> Grid {
        self.grid
    }

    pub(super) fn patch(&self, row: usize, col: usize) -> f32 {
        self.positions[row * self.grid.cols + col]
    }

    /// One line across the region, interpolated between rows: a position for each column of
    /// patches.
    pub(super) fn line(&self, row: Tap) -> Vec<f32> {
        (0..self.grid.cols)
            .map(|col| row.between(self.patch(row.low, col), self.patch(row.high, col)))
            .collect()
    }
}

impl Axis {
    /// `start` and `length` are the region's, in pixels of a canvas with `pixels` of them along
    /// this axis; `patches` share its length.
    pub(super) fn new(
        start: f64,
        length: f64,
        patches: usize,
        pixels: u32,
        smooth: Smooth,
    ) -> Self {
        // `as` saturates at the ends of the canvas.
        let edge = |at: f64| ((at - 0.5).ceil() as u32).min(pixels);
        let inside = edge(start)..edge(start + length);
        let taps = inside
            .clone()
            .map(|pixel| {
                let at = (f64::from(pixel) + 0.5 - start) / length * patches as f64;
                Tap::new(at, patches, smooth)
            })
            .collect();
        Self { inside, taps }
    }
}

impl Tap {
    /// `at` is counted in patches from the region's edge: patch `i` has its centre at `i` + ½.
    pub(super) fn new(at: f64, patches: usize, smooth: Smooth) -> Self {
        let last = patches - 1;
        match smooth {
            Smooth::None => {
                let low = (at as usize).min(last);
                Self {
                    low,
                    high: low,
                    part: 0.0,
                }
            }
            Smooth::Bilinear => {
                let from_centre = (at - 0.5).clamp(0.0, last as f64);
                let low = from_centre as usize;
                Self {
                    low,
                    high: (low + 1).min(last),
                    part: (from_centre - low as f64) as f32,
                }
            }
        }
    }

    /// The value here, given all values along the axis.
    pub(super) fn of(self, line: &[f32]) -> f32 {
        self.between(line[self.low], line[self.high])
    }

    fn between(self, low: f32, high: f32) -> f32 {
        low + self.part * (high - low)
    }
}
