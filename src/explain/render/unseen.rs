//! What the model has not seen: greyed, dimmed and hatched.

use super::field::Axis;
use crate::explain::{Raster, Rect, Smooth};

/// Pixels from one hatching line to the next, along a row.
const PERIOD: u32 = 12;

/// How much of the luma remains, and how much light a hatching line adds.
const DIM: u32 = 90;
const LINE: [u8; 3] = [20, 34, 20];

/// Veils everything outside `region`.
pub(super) fn veil(canvas: &mut Raster, region: Rect) {
    let (width, height) = canvas.size();
    let across = Axis::new(region.x, region.width, 1, width, Smooth::None).inside;
    let down = Axis::new(region.y, region.height, 1, height, Smooth::None).inside;
    for y in 0..height {
        let seen = if down.contains(&y) {
            across.clone()
        } else {
            0..0
        };
        let row = canvas.row_mut(y);
        for x in (0..seen.start).chain(seen.end..width) {
            let pixel = &mut row[x as usize * 3..][..3];
            let phase = (x + y) % PERIOD;
            let light = LINE.get(phase as usize).copied().unwrap_or(0);
            pixel.fill(dimmed(pixel).saturating_add(light));
        }
    }
}

/// Luma (Rec. 601 weights, in 256ths), dimmed.
fn dimmed(pixel: &[u8]) -> u8 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    let luma = (77 * red + 150 * green + 29 * blue) >> 8;
    ((luma * DIM) >> 8) as u8
}
