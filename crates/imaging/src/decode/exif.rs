//! EXIF orientation: how a stored picture has to be turned to be upright.

use image::{DynamicImage, metadata::Orientation};

use super::Rgb8;

/// The orientation that a TIFF-structured EXIF block gives; upright if it gives none.
pub(super) fn orientation(exif: &[u8]) -> Orientation {
    Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms)
}

/// Whether turning exchanges width and height.
pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// Turns a stored picture upright.
pub(super) fn upright(stored: Rgb8, orientation: Orientation) -> Rgb8 {
    if orientation == Orientation::NoTransforms {
        return stored;
    }
    let mut picture = DynamicImage::ImageRgb8(stored.into());
    picture.apply_orientation(orientation);
    picture.into_rgb8().into()
}
