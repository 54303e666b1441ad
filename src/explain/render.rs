//! Draws a map: over the picture, alone, or as contour lines.

mod contour;
mod field;
mod heat;
mod unseen;

use self::{field::Field, heat::Inks};
use super::{PatchMap, Placement, Raster, RgbView, Scale, Style, View, placement::bounded};

/// The longer side of a map drawn without a picture.
const CANVAS_SIDE: u32 = 1024;

/// The ground of a heat map outside the region, and of contours without a picture.
const GROUND: [u8; 3] = [52, 52, 56];

/// Draws `map` where the model looked.
///
/// `picture` is a copy of the whole upright picture at any resolution; the result has its size.
/// Without it an overlay becomes a heat map, contours are drawn on a plain ground, and the size is
/// that of the upright original, bounded to 1024 pixels.
///
/// A pixel belongs to the region, and to a patch, if its centre lies there. Blending is done on the
/// sRGB bytes, as browsers and image editors do. Outside the region the picture is greyed, dimmed
/// and hatched in every view and at every `alpha`, as the model has not seen it.
pub fn render(
    map: &PatchMap,
    scale: Scale,
    placement: &Placement,
    picture: Option<RgbView<'_>>,
    style: &Style,
) -> Raster {
    let colormap = style.colormap.unwrap_or_else(|| scale.colormap());
    let ground = match style.view {
        View::Heatmap => None,
        View::Overlay | View::Contour => picture,
    };
    let mut canvas = match (ground, picture) {
        (Some(picture), _) => Raster::from(picture),
        (None, Some(picture)) => Raster::filled(picture.size(), GROUND),
        (None, None) => Raster::filled(bounded(placement.picture(), CANVAS_SIDE), GROUND),
    };
    let region = placement.region_on(canvas.size());
    let field = Field::new(map, scale);

    unseen::veil(&mut canvas, region);
    match (style.view, ground) {
        (View::Contour, _) => {
            contour::draw(
                &mut canvas,
                region,
                &field,
                style.smooth,
                &scale.levels(),
                colormap,
            );
        }
        (View::Overlay, Some(_)) => {
            let inks = Inks::over_picture(colormap, scale, style.alpha);
            heat::paint(&mut canvas, region, &field, style.smooth, &inks);
        }
        (View::Overlay | View::Heatmap, _) => {
            let inks = Inks::opaque(colormap);
            heat::paint(&mut canvas, region, &field, style.smooth, &inks);
        }
    }
    canvas
}

/// Fills the whole canvas part at `region` with the map's colours; for contact sheets.
pub(super) fn paint_opaque(
    canvas: &mut Raster,
    region: super::Rect,
    map: &PatchMap,
    scale: Scale,
    style: &Style,
) {
    let inks = Inks::opaque(style.colormap.unwrap_or_else(|| scale.colormap()));
    heat::paint(canvas, region, &Field::new(map, scale), style.smooth, &inks);
}

#[cfg(test)]
mod tests;
