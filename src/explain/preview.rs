//! Previews: the copy of an image that is stored to draw maps on, at most 1024 pixels, as JPEG.

mod shrink;

use image::ImageFormat;
use jpeg_encoder::{ColorType, Encoder};

use super::{Raster, RenderError, RgbView, placement::bounded};

/// The longer side of previews, in pixels.
pub const PREVIEW_SIDE: u32 = 1024;

/// JPEG quality: artefacts stay below what an overlay shows.
const QUALITY: u8 = 85;

/// Encodes a preview: area-averaged so that its longer side is at most `max_side`, then JPEG.
///
/// # Errors
///
/// When the encoder fails.
pub fn encode_preview(image: RgbView<'_>, max_side: u32) -> Result<Vec<u8>, RenderError> {
    let size = bounded(image.size(), max_side);
    if size == image.size() {
        return encode(image);
    }
    encode(shrink::shrink(image, size).view())
}

/// Decodes a preview.
///
/// # Errors
///
/// When the bytes are no JPEG.
pub fn decode_preview(jpeg: &[u8]) -> Result<Raster, RenderError> {
    let decoded = image::load_from_memory_with_format(jpeg, ImageFormat::Jpeg)
        .map_err(|error| codec_error("decode", &error))?
        .into_rgb8();
    let (width, height) = decoded.dimensions();
    Raster::new(width, height, decoded.into_raw())
}

fn encode(image: RgbView<'_>) -> Result<Vec<u8>, RenderError> {
    let (width, height) = image.size();
    let side = |pixels: u32| u16::try_from(pixels).map_err(|error| codec_error("encode", &error));
    let mut bytes = Vec::with_capacity(image.pixels().len() / 8);
    Encoder::new(&mut bytes, QUALITY)
        .encode(image.pixels(), side(width)?, side(height)?, ColorType::Rgb)
        .map_err(|error| codec_error("encode", &error))?;
    Ok(bytes)
}

fn codec_error(action: &'static str, error: &dyn std::error::Error) -> RenderError {
    RenderError::Codec {
        action,
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth image, which JPEG keeps well.
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
    fn a_small_image_keeps_its_size_and_nearly_its_colors() {
        let pixels = gradient(120, 90);
        let bytes = encode_preview(RgbView::new(120, 90, &pixels).unwrap(), PREVIEW_SIDE).unwrap();
        let copy = decode_preview(&bytes).unwrap();
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
    fn a_large_image_is_bounded_on_its_longer_side() {
        let pixels = gradient(200, 300);
        let bytes = encode_preview(RgbView::new(200, 300, &pixels).unwrap(), 60).unwrap();
        let copy = decode_preview(&bytes).unwrap();
        assert_eq!(copy.size(), (40, 60));
        let middle = &copy.pixels()[(30 * 40 + 20) * 3..][..3];
        assert!(
            middle.iter().all(|byte| byte.abs_diff(129) < 8),
            "{middle:?}"
        );
    }

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        let pixels = gradient(33, 17);
        let view = RgbView::new(33, 17, &pixels).unwrap();
        assert_eq!(
            encode_preview(view, 20).unwrap(),
            encode_preview(view, 20).unwrap()
        );
    }

    #[test]
    fn a_damaged_preview_is_an_error() {
        let error = decode_preview(b"not a picture").unwrap_err();
        assert!(error.to_string().starts_with("cannot decode an image"));
    }
}
