//! Lays the map's colours over the canvas.

use super::field::{Axis, Field};
use crate::explain::{Alpha, Colormap, Raster, Rect, Scale, Smooth};

/// One ink for each of the 256 steps of the colormap.
pub(super) struct Inks(Vec<Ink>);

/// What a step does to a pixel: `(keep · pixel + add) / 256`.
#[derive(Clone, Copy)]
struct Ink {
    keep: u16,
    add: [u16; 3],
}

impl Inks {
    /// The colours alone.
    pub(super) fn opaque(colormap: Colormap) -> Self {
        Self::with_opacity(colormap, |_| 1.0)
    }

    /// Colours over a picture. What matters is covered more than what does not, so that the
    /// picture stays clear where the map is quiet: at alpha ½ by a quarter at the bottom of the
    /// scale and by two thirds at its top. Alpha 0 and 1 are exactly nothing and everything.
    pub(super) fn over_picture(colormap: Colormap, scale: Scale, alpha: Alpha) -> Self {
        Self::with_opacity(colormap, |position| {
            alpha.get().powf(2.0 - 1.4 * scale.salience(position))
        })
    }

    fn with_opacity(colormap: Colormap, opacity: impl Fn(f32) -> f32) -> Self {
        let ink = |index: u8| {
            // 0…256, so that both ends are exact.
            let weight = (opacity(f32::from(index) / 255.0) * 256.0).round() as u16;
            Ink {
                keep: 256 - weight,
                add: colormap.step(index).map(|byte| u16::from(byte) * weight),
            }
        };
        Self((0..=255).map(ink).collect())
    }
}

/// Paints the part of the canvas that lies in `region`.
pub(super) fn paint(
    canvas: &mut Raster,
    region: Rect,
    field: &Field,
    smooth: Smooth,
    inks: &Inks,
) {
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
            let ink = inks.0[usize::from((col.of(&line) * 255.0 + 0.5) as u8)];
            for (byte, add) in pixel.iter_mut().zip(ink.add) {
                // At most 256 · 255 + 128: fits, and the shift leaves a byte.
                *byte = ((u16::from(*byte) * ink.keep + add + 128) >> 8) as u8;
            }
        }
    }
}
