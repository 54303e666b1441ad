//! Draws a map: over the image, alone, or as contour lines.

mod contour;
mod crop_mask;
mod heatmap;
mod interpolate;

use self::{heatmap::BlendLut, interpolate::ScalarField};
use super::{PatchMap, Placement, Raster, RgbView, Scale, Style, View, placement::bounded};

/// The longer side of a map drawn without an image.
const CANVAS_SIDE: u32 = 1024;

/// The ground of a heat map outside the region, and of contours without an image.
const BACKGROUND: [u8; 3] = [52, 52, 56];

/// Draws `map` where the model looked.
///
/// `image` is a copy of the whole upright image at any resolution; the result has its size.
/// Without it an overlay becomes a heat map, contours are drawn on a plain ground, and the size is
/// that of the upright original, bounded to 1024 pixels.
///
/// A pixel belongs to the region, and to a patch, if its centre lies there. Blending is done on the
/// sRGB bytes, as browsers and image editors do. Outside the region the image is greyed, dimmed
/// and hatched in every view and at every `alpha`, as the model has not seen it.
pub fn render(
    map: &PatchMap,
    scale: Scale,
    placement: &Placement,
    image: Option<RgbView<'_>>,
    style: &Style,
) -> Raster {
    let colormap = style.colormap.unwrap_or_else(|| scale.colormap());
    let background = match style.view {
        View::Heatmap => None,
        View::Overlay | View::Contour => image,
    };
    let mut canvas = match (background, image) {
        (Some(image), _) => Raster::from(image),
        (None, Some(image)) => Raster::filled(image.size(), BACKGROUND),
        (None, None) => Raster::filled(bounded(placement.image(), CANVAS_SIDE), BACKGROUND),
    };
    let region = placement.region_on(canvas.size());
    let field = ScalarField::new(map, scale);

    crop_mask::apply(&mut canvas, region);
    match (style.view, background) {
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
            let lut = BlendLut::over_image(colormap, scale, style.alpha);
            heatmap::paint(&mut canvas, region, &field, style.smooth, &lut);
        }
        (View::Overlay | View::Heatmap, _) => {
            let lut = BlendLut::opaque(colormap);
            heatmap::paint(&mut canvas, region, &field, style.smooth, &lut);
        }
    }
    canvas
}

/// Fills the whole canvas part at `region` with the map's colors; for contact sheets.
pub(super) fn paint_opaque(
    canvas: &mut Raster,
    region: super::Rect,
    map: &PatchMap,
    scale: Scale,
    style: &Style,
) {
    let lut = BlendLut::opaque(style.colormap.unwrap_or_else(|| scale.colormap()));
    heatmap::paint(
        canvas,
        region,
        &ScalarField::new(map, scale),
        style.smooth,
        &lut,
    );
}

#[cfg(test)]
mod tests;
