//! The copy of a picture that is kept to draw maps on: at most 1024 pixels, as JPEG.

mod shrink;

use image::ImageFormat;
use jpeg_encoder::{ColorType, Encoder};

use super::{Invalid, Raster, RgbView, placement::bounded};

/// The longer side of kept pictures, in pixels.
pub const KEPT_SIDE: u32 = 1024;

/// JPEG quality: artefacts stay below what an overlay shows.
const QUALITY: u8 = 85;

/// Makes the copy: area-averaged so that its longer side is at most `max_side`, then JPEG.
///
/// # Errors
///
/// When the encoder fails.
pub fn keep(picture: RgbView<'_>, max_side: u32) -> Result<Vec<u8>, Invalid> {
    let size = bounded(picture.size(), max_side);
    if size == picture.size() {
        return encode(picture);
    }
    encode(shrink::shrink(picture, size).view())
}

/// Reads a copy back.
///
/// # Errors
///
/// When the bytes are no JPEG.
pub fn restore(jpeg: &[u8]) -> Result<Raster, Invalid> {
    let decoded = image::load_from_memory_with_format(jpeg, ImageFormat::Jpeg)
        .map_err(|error| codec("decode", &error))?
        .into_rgb8();
    let (width, height) = decoded.dimensions();
    Raster::new(width, height, decoded.into_raw())
}

fn encode(picture: RgbView<'_>) -> Result<Vec<u8>, Invalid> {
    let (width, height) = picture.size();
    let side = |pixels: u32| u16::try_from(pixels).map_err(|error| codec("encode", &error));
    let mut bytes = Vec::with_capacity(picture.pixels().len() / 8);
    Encoder::new(&mut bytes, QUALITY)
        .encode(
            picture.pixels(),
            side(width)?,
            side(height)?,
            ColorType::Rgb,
        )
        .map_err(|error| codec("encode", &error))?;
    Ok(bytes)
}

fn codec(action: &'static str, error: &dyn std::error::Error) -> Invalid {
    Invalid::Codec {
        action,
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth picture, which JPEG keeps well.
    fn gradient(width: u32, height: u32) -> Vec<u8> {
        let pixel = |x: u32, y: u32| {
            let (across, down) = (x * 255 / width, y * 255 / height);
            [across as u8, down as u8, 128]
        };
        (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| pixel(x, y)))
            .collect()
    }

    #[test]
    fn a_small_picture_keeps_its_size_and_nearly_its_colours() {
        let pixels = gradient(120, 90);
        let bytes = keep(RgbView::new(120, 90, &pixels).unwrap(), KEPT_SIDE).unwrap();
        let copy = restore(&bytes).unwrap();
        assert_eq!(copy.size(), (120, 90));
        let worst = copy
            .pixels()
            .iter()
            .zip(&pixels)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(worst <= Some(12), "{worst:?}");
    }

    #[test]
    fn a_large_picture_is_bounded_on_its_longer_side() {
        let pixels = gradient(200, 300);
        let bytes = keep(RgbView::new(200, 300, &pixels).unwrap(), 60).unwrap();
        let copy = restore(&bytes).unwrap();
        assert_eq!(copy.size(), (40, 60));
        let middle = &copy.pixels()[(30 * 40 + 20) * 3..][..3];
        assert!(
            middle.iter().all(|byte| byte.abs_diff(129) < 8),
            "{middle:?}"
        );
    }

    #[test]
    fn the_same_picture_gives_the_same_bytes() {
        let pixels = gradient(33, 17);
        let view = RgbView::new(33, 17, &pixels).unwrap();
        assert_eq!(keep(view, 20).unwrap(), keep(view, 20).unwrap());
    }

    #[test]
    fn a_broken_copy_is_an_error() {
        let error = restore(b"not a picture").unwrap_err();
        assert!(error.to_string().starts_with("cannot decode a picture"));
    }
}
