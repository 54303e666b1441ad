//! The crop mask: what the model has not seen is greyed, dimmed and hatched.

use super::interpolate::Axis;
use crate::explain::{Raster, Rect, Smooth, raster::luma};

/// Pixels from one hatching line to the next, along a row.
const PERIOD: u32 = 12;

/// How much of the luma remains, in 256ths.
const DIM: u32 = 90;

/// How much light a hatching line adds, across its three pixels.
const LINE: [u8; 3] = [22, 40, 22];

/// Greys, dims and hatches everything outside `region`.
pub(super) fn apply(canvas: &mut Raster, region: Rect) {
    let (width, height) = canvas.size();
    let across = Axis::new(region.x, region.width, 1, width, Smooth::None).inside;
    let down = Axis::new(region.y, region.height, 1, height, Smooth::None).inside;
    for y in 0..height {
        let visible = if down.contains(&y) {
            across.clone()
        } else {
            0..0
        };
        let row = canvas.row_mut(y);
        for x in (0..visible.start).chain(visible.end..width) {
            let pixel = &mut row[x as usize * 3..][..3];
            let phase = (x + y) % PERIOD;
            let light = LINE.get(phase as usize).copied().unwrap_or(0);
            let dimmed = (u32::from(luma(pixel)) * DIM) >> 8;
            // Below DIM, and a line adds little.
            pixel.fill(dimmed as u8 + light);
        }
    }
}
