//! Blends the map's colors over the canvas.

use super::interpolate::{Axis, ScalarField};
use crate::explain::{Alpha, Colormap, Raster, Rect, Scale, Smooth, raster::luma};

/// A lookup table by which the pixels of a region are blended.
pub(super) struct BlendLut {
    /// How much of its own color a pixel loses, in 256ths.
    desaturation: u16,
    /// One for each of the 256 steps of the colormap.
    steps: Vec<BlendEntry>,
}

/// What a step does to a pixel: `(pixel_weight · pixel + add) / 256`.
#[derive(Clone, Copy)]
struct BlendEntry {
    pixel_weight: u16,
    add: [u16; 3],
}

impl BlendLut {
    /// The colors alone.
    pub(super) fn opaque(colormap: Colormap) -> Self {
        Self {
            desaturation: 0,
            steps: steps(colormap, |_| 1.0),
        }
    }

    /// Colors over an image, as [`Scale::opacity`] and [`Scale::desaturation`] say.
    pub(super) fn over_image(colormap: Colormap, scale: Scale, alpha: Alpha) -> Self {
        Self {
            desaturation: in_256ths(scale.desaturation(alpha.get())),
            steps: steps(colormap, |position| scale.opacity(position, alpha.get())),
        }
    }
}

/// Paints the part of the canvas that lies in `region`.
pub(super) fn paint(
    canvas: &mut Raster,
    region: Rect,
    field: &ScalarField,
    smooth: Smooth,
    lut: &BlendLut,
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
            let entry = lut.steps[usize::from((col.of(&line) * 255.0 + 0.5) as u8)];
            let grey = u16::from(luma(pixel)) * lut.desaturation;
            for (byte, add) in pixel.iter_mut().zip(entry.add) {
                let faded = blend(*byte, 256 - lut.desaturation, grey);
                *byte = blend(faded, entry.pixel_weight, add);
            }
        }
    }
}

/// `add` is another byte times what `pixel_weight` lacks to 256, so the sum is at most 256 · 255 +
/// 128: it fits, and the shift leaves a byte.
fn blend(byte: u8, pixel_weight: u16, add: u16) -> u8 {
    ((u16::from(byte) * pixel_weight + add + 128) >> 8) as u8
}

fn steps(colormap: Colormap, opacity: impl Fn(f32) -> f32) -> Vec<BlendEntry> {
    let entry = |index: u8| {
        let weight = in_256ths(opacity(f32::from(index) / 255.0));
        BlendEntry {
            pixel_weight: 256 - weight,
            add: colormap.step(index).map(|byte| u16::from(byte) * weight),
        }
    };
    (0..=255).map(entry).collect()
}

/// 0…256, so that both ends are exact.
fn in_256ths(part: f32) -> u16 {
    (part * 256.0).round() as u16
}
