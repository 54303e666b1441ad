//! Lays the map's colours over the canvas.

use super::field::{Axis, Field};
use crate::explain::{Alpha, Colormap, Raster, Rect, Scale, Smooth, raster::luma};

/// What is done to the pixels of a region.
pub(super) struct Inks {
    /// How much of its own colour a pixel loses, in 256ths.
    fade: u16,
    /// One ink for each of the 256 steps of the colormap.
    steps: Vec<Ink>,
}

/// What a step does to a pixel: `(keep · pixel + add) / 256`.
#[derive(Clone, Copy)]
struct Ink {
    keep: u16,
    add: [u16; 3],
}

impl Inks {
    /// The colours alone.
    pub(super) fn opaque(colormap: Colormap) -> Self {
        Self {
            fade: 0,
            steps: steps(colormap, |_| 1.0),
        }
    }

    /// Colours over a picture, as [`Scale::opacity`] and [`Scale::fade`] say.
    pub(super) fn over_picture(colormap: Colormap, scale: Scale, alpha: Alpha) -> Self {
        Self {
            fade: in_256ths(scale.fade(alpha.get())),
            steps: steps(colormap, |position| scale.opacity(position, alpha.get())),
        }
    }
}

/// Paints the part of the canvas that lies in `region`.
pub(super) fn paint(canvas: &mut Raster, region: Rect, field: &Field, smooth: Smooth, inks: &Inks) {
    let (width, height) = canvas.size();
    let grid = field.grid();
    let across = Axis::new(region.x, region.width, grid.cols, width, smooth);
    let down = Axis::new(region.y, region.height, grid.rows, height, smooth);
    let bytes = across.inside.start as usize * 3..across.inside.end as usize * 3;

    for (y, &row) in down.inside.clone().zip(&down.taps) {
        let line = field.line(row);
        let pixels = canvas.row_mut(y)[bytes.clone()].chunks_exact_mut(3);
        for (pixel, col) in pixels.zip(&across.taps) {
            // Positions lie within 0…1, so this is a step of the table.
            let ink = inks.steps[usize::from((col.of(&line) * 255.0 + 0.5) as u8)];
            let grey = u16::from(luma(pixel)) * inks.fade;
            for (byte, add) in pixel.iter_mut().zip(ink.add) {
                let faded = blend(*byte, 256 - inks.fade, grey);
                *byte = blend(faded, ink.keep, add);
            }
        }
    }
}

/// `add` is another byte times what `keep` lacks to 256, so the sum is at most 256 · 255 + 128:
/// it fits, and the shift leaves a byte.
fn blend(byte: u8, keep: u16, add: u16) -> u8 {
    ((u16::from(byte) * keep + add + 128) >> 8) as u8
}

fn steps(colormap: Colormap, opacity: impl Fn(f32) -> f32) -> Vec<Ink> {
    let ink = |index: u8| {
        let weight = in_256ths(opacity(f32::from(index) / 255.0));
        Ink {
            keep: 256 - weight,
            add: colormap.step(index).map(|byte| u16::from(byte) * weight),
        }
    };
    (0..=255).map(ink).collect()
}

/// 0…256, so that both ends are exact.
fn in_256ths(part: f32) -> u16 {
    (part * 256.0).round() as u16
}
