//! Contour lines: marching squares, then antialiased strokes with a casing, so that they can be
//! read on any ground.

mod stroke;

use self::stroke::Strokes;
use super::interpolate::{ScalarField, Tap};
use crate::explain::{Colormap, Raster, Rect, Smooth};

/// Lattice cells a patch is divided into, each way. Even, so that patch centres, where the
/// interpolated field has its creases, are nodes.
const CELLS: usize = 8;

/// A point in patches from the region's upper left corner.
type Point = (f64, f64);

/// Draws a line of each level, in the level's own color.
///
/// Interpolated maps get iso-lines of the interpolated field; raw maps the outlines of all patches
/// at or above the level.
pub(super) fn draw(
    canvas: &mut Raster,
    region: Rect,
    field: &ScalarField,
    smooth: Smooth,
    levels: &[f32],
    colormap: Colormap,
) {
    let grid = field.grid();
    let across = region.width / grid.cols as f64;
    let down = region.height / grid.rows as f64;
    let on_canvas = |(u, v): Point| (region.x + u * across, region.y + v * down);

    let lattice = Lattice::new(field);
    let mut strokes = Strokes::new(canvas.size());
    for (index, &level) in levels.iter().enumerate() {
        let mut line = |from, to| strokes.line(on_canvas(from), on_canvas(to), index);
        match smooth {
            Smooth::None => outlines(field, level, &mut line),
            Smooth::Bilinear => lattice.iso_lines(level, &mut line),
        }
    }
    let colors: Vec<[u8; 3]> = levels.iter().map(|&at| colormap.color(at)).collect();
    strokes.composite(canvas, region, &colors);
}

/// The borders between patches at or above `level` and patches below it.
fn outlines(field: &ScalarField, level: f32, line: &mut impl FnMut(Point, Point)) {
    let grid = field.grid();
    let above = |row, col| field.patch(row, col) >= level;
    for row in 0..grid.rows {
        for col in 0..grid.cols {
            let (u, v) = (col as f64, row as f64);
            if col > 0 && above(row, col) != above(row, col - 1) {
                line((u, v), (u, v + 1.0));
            }
            if row > 0 && above(row, col) != above(row - 1, col) {
                line((u, v), (u + 1.0, v));
            }
        }
    }
}

/// The interpolated field at the nodes of a lattice finer than the patches.
struct Lattice {
    rows: usize,
    cols: usize,
    nodes: Vec<f32>,
}

impl Lattice {
    fn new(field: &ScalarField) -> Self {
        let grid = field.grid();
        let taps = |patches: usize| {
            (0..=patches * CELLS)
                .map(move |node| Tap::new(node as f64 / CELLS as f64, patches, Smooth::Bilinear))
        };
        let nodes = taps(grid.rows).flat_map(|row| {
            let line = field.line(row);
            taps(grid.cols).map(move |col| col.of(&line))
        });
        Self {
            rows: grid.rows * CELLS,
            cols: grid.cols * CELLS,
            nodes: nodes.collect(),
        }
    }

    /// Marching squares. A cell's border is walked once around; wherever the level is crossed
    /// there is an end of a line.
    fn iso_lines(&self, level: f32, line: &mut impl FnMut(Point, Point)) {
        for row in 0..self.rows {
            for col in 0..self.cols {
                let corners = [
                    (row, col),
                    (row, col + 1),
                    (row + 1, col + 1),
                    (row + 1, col),
                ];
                let crossings: Vec<Point> = (0..4)
                    .filter_map(|side| self.crossing(corners[side], corners[(side + 1) % 4], level))
                    .collect();
                match crossings[..] {
                    [from, to] => line(from, to),
                    [top, right, bottom, left] => {
                        // A saddle: which corners belong together is what the middle says.
                        let sum: f32 = corners.iter().map(|&corner| self.node(corner)).sum();
                        let middle = sum / 4.0 >= level;
                        if middle == (self.node(corners[0]) >= level) {
                            line(top, right);
                            line(bottom, left);
                        } else {
                            line(left, top);
                            line(right, bottom);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Where the level is crossed on the way between two neighbouring nodes.
    fn crossing(&self, from: (usize, usize), to: (usize, usize), level: f32) -> Option<Point> {
        let (low, high) = (self.node(from), self.node(to));
        if (low >= level) == (high >= level) {
            return None;
        }
        let part = f64::from((level - low) / (high - low));
        let along = |a: usize, b: usize| (a as f64 + part * (b as f64 - a as f64)) / CELLS as f64;
        Some((along(from.1, to.1), along(from.0, to.0)))
    }

    fn node(&self, (row, col): (usize, usize)) -> f32 {
        self.nodes[row * (self.cols + 1) + col]
    }
}
