//! Antialiased lines with a casing.
//!
//! Every pixel remembers how far the nearest line is and which level that has; the lines are
//! colored in the end. So segments of one line join without seams or overlaps.

use crate::explain::{Raster, Rect, raster::luma};

/// The casing's width on either side of a line, in pixels.
const CASING: f32 = 1.4;

/// How much of the ground a casing covers.
const CASING_OPACITY: f32 = 0.65;

pub(super) struct Strokes {
    width: u32,
    height: u32,
    /// Half the width of a line, in pixels.
    half: f32,
    nearest: Vec<Nearest>,
}

#[derive(Clone, Copy)]
struct Nearest {
    /// To the middle of the line, in pixels.
    distance: f32,
    level: u8,
}

impl Strokes {
    /// Lines that suit a canvas of this size.
    pub(super) fn new((width, height): (u32, u32)) -> Self {
        let far = Nearest {
            distance: f32::INFINITY,
            level: 0,
        };
        Self {
            width,
            height,
            half: (width.max(height) as f32 / 800.0).clamp(0.7, 1.3),
            nearest: vec![far; width as usize * height as usize],
        }
    }

    /// One segment of a line, in pixels of the canvas, belonging to the level with this index.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), level: usize) {
        let reach = f64::from(self.half + CASING) + 1.0;
        let (xs, ys) = (ordered(from.0, to.0), ordered(from.1, to.1));
        // `as` saturates at zero.
        let first_x = (xs.0 - reach) as u32;
        let first_y = (ys.0 - reach) as u32;
        let end_x = ((xs.1 + reach).ceil() as u32).min(self.width);
        let end_y = ((ys.1 + reach).ceil() as u32).min(self.height);

        let (ux, uy) = ((to.0 - from.0) as f32, (to.1 - from.1) as f32);
        let length_squared = ux * ux + uy * uy;
        for y in first_y..end_y {
            for x in first_x..end_x {
                let px = (f64::from(x) + 0.5 - from.0) as f32;
                let py = (f64::from(y) + 0.5 - from.1) as f32;
                let along = if length_squared > 0.0 {
                    ((px * ux + py * uy) / length_squared).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let distance = (px - along * ux).hypot(py - along * uy);
                let nearest = &mut self.nearest[y as usize * self.width as usize + x as usize];
                if distance < nearest.distance {
                    *nearest = Nearest {
                        distance,
                        level: level as u8,
                    };
                }
            }
        }
    }

    /// Colors the lines, clipped to the region.
    pub(super) fn composite(&self, canvas: &mut Raster, region: Rect, colors: &[[u8; 3]]) {
        let inside = |at: u32, start: f64, length: f64| {
            let centre = f64::from(at) + 0.5;
            centre >= start && centre < start + length
        };
        for y in (0..self.height).filter(|&y| inside(y, region.y, region.height)) {
            let nearest = &self.nearest[y as usize * self.width as usize..];
            let pixels = canvas.row_mut(y).chunks_exact_mut(3);
            for ((pixel, near), x) in pixels.zip(nearest).zip(0..) {
                let casing = coverage(near.distance, self.half + CASING) * CASING_OPACITY;
                if casing <= 0.0 || !inside(x, region.x, region.width) {
                    continue;
                }
                let color = colors[usize::from(near.level)];
                let core = coverage(near.distance, self.half);
                let shade = contrasting(color);
                for (byte, channel) in pixel.iter_mut().zip(color) {
                    let cased = mix(f32::from(*byte), shade, casing);
                    *byte = mix(cased, f32::from(channel), core).round() as u8;
                }
            }
        }
    }
}

/// How much of a pixel at this distance from the middle of a line the line covers.
fn coverage(distance: f32, half: f32) -> f32 {
    (half + 0.5 - distance).clamp(0.0, 1.0)
}

/// A dark casing for light lines, a light one for dark lines.
fn contrasting(color: [u8; 3]) -> f32 {
    if luma(&color) > 127 { 0.0 } else { 235.0 }
}

fn mix(under: f32, over: f32, opacity: f32) -> f32 {
    under + opacity * (over - under)
}

fn ordered(a: f64, b: f64) -> (f64, f64) {
    (a.min(b), a.max(b))
}
