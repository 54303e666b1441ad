//! A contact sheet: many maps side by side, such as all heads of a layer.

use super::{PatchMap, Raster, Rect, RenderError, Scale, Style, render};

/// Pixels between maps and around them.
const GUTTER: u32 = 6;

/// The ground between maps.
const BACKGROUND: [u8; 3] = [24, 24, 27];

/// A patch is drawn with at least and at most so many pixels on each side.
const PATCH_SIDES: (u32, u32) = (2, 16);

/// The longer side that a sheet should not exceed, unless its patches would vanish.
const SHEET_SIDE: u32 = 1024;

/// Draws maps of weights row by row, `columns` in a row or as square as possible: the map with
/// index `i` is in row `i / columns`, column `i % columns`. Every map has its own fair share, and
/// patches are whole numbers of pixels. Of `style`, the colormap and the smoothing are used.
///
/// # Errors
///
/// When there are no maps, or their grids differ.
pub fn sheet(
    maps: &[PatchMap],
    columns: Option<usize>,
    style: &Style,
) -> Result<Raster, RenderError> {
    let grid = maps.first().ok_or(RenderError::Sheet)?.grid();
    if maps.iter().any(|map| map.grid() != grid) {
        return Err(RenderError::Sheet);
    }
    let columns = columns
        .unwrap_or_else(|| square_side(maps.len()))
        .clamp(1, maps.len());
    let rows = maps.len().div_ceil(columns);

    let patches = (columns * grid.cols).max(rows * grid.rows) as u32;
    let patch = (SHEET_SIDE / patches).clamp(PATCH_SIDES.0, PATCH_SIDES.1);
    let (width, height) = (grid.cols as u32 * patch, grid.rows as u32 * patch);
    let size = (
        columns as u32 * (width + GUTTER) + GUTTER,
        rows as u32 * (height + GUTTER) + GUTTER,
    );
    let mut canvas = Raster::filled(size, BACKGROUND);
    for (index, map) in maps.iter().enumerate() {
        let (row, col) = ((index / columns) as u32, (index % columns) as u32);
        let region = Rect {
            x: f64::from(GUTTER + col * (width + GUTTER)),
            y: f64::from(GUTTER + row * (height + GUTTER)),
            width: f64::from(width),
            height: f64::from(height),
        };
        render::paint_opaque(&mut canvas, region, map, Scale::share(map), style);
    }
    Ok(canvas)
}

/// The smallest side of a square with room for `count`.
fn square_side(count: usize) -> usize {
    let root = count.isqrt();
    if root * root == count { root } else { root + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Colormap, Grid, Smooth};

    const GRID: Grid = Grid { rows: 2, cols: 3 };

    fn style() -> Style {
        Style {
            colormap: Some(Colormap::Grey),
            smooth: Smooth::None,
            ..Style::default()
        }
    }

    fn one_hot(patch: usize) -> PatchMap {
        let mut values = vec![0.0; GRID.patches()];
        values[patch] = 1.0;
        PatchMap::new(GRID, values).unwrap()
    }

    #[test]
    fn maps_lie_row_by_row_and_an_unfilled_place_is_ground() {
        let maps: Vec<PatchMap> = (0..3).map(one_hot).collect();
        let sheet = sheet(&maps, None, &style()).unwrap();
        // Two by two maps of 3 × 2 patches of 16 pixels.
        assert_eq!(sheet.size(), (2 * 54 + 6, 2 * 38 + 6));
        let at = |x: usize, y: usize| sheet.pixels()[(y * sheet.size().0 as usize + x) * 3];
        let bright = Colormap::Grey.color(6.0 / 8.0)[0];
        assert_eq!((at(6, 6), at(21, 21), at(22, 6)), (bright, bright, 0));
        assert_eq!((at(60, 6), at(76, 6)), (0, bright));
        assert_eq!(at(6 + 32, 44), bright);
        assert_eq!(at(60, 44), BACKGROUND[0]);
    }

    #[test]
    fn columns_can_be_chosen_and_many_maps_still_have_patches() {
        let maps = vec![one_hot(0); 24 * 16];
        let sheet = sheet(&maps, Some(16), &style()).unwrap();
        assert_eq!(sheet.size(), (16 * (3 * 16 + 6) + 6, 24 * (2 * 16 + 6) + 6));
    }

    #[test]
    fn no_maps_and_maps_of_different_grids_are_refused() {
        assert_eq!(sheet(&[], None, &style()), Err(RenderError::Sheet));
        let other = PatchMap::new(Grid { rows: 1, cols: 1 }, vec![1.0]).unwrap();
        assert_eq!(
            sheet(&[one_hot(0), other], None, &style()),
            Err(RenderError::Sheet)
        );
    }
}
