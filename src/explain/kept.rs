//! The copy of a picture that is kept to draw maps on: at most 1024 pixels, as JPEG.

mod shrink;

use image::{ExtendedColorType, ImageFormat, codecs::jpeg::JpegEncoder};

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
/// When the bytes are not a JPEG that [`keep`] could have written.
pub fn restore(jpeg: &[u8]) -> Result<Raster, Invalid> {
    let decoded = image::load_from_memory_with_format(jpeg, ImageFormat::Jpeg)
        .map_err(|error| codec("decode", &error))?
        .into_rgb8();
    let (width, height) = decoded.dimensions();
    Raster::new(width, height, decoded.into_raw())
}

fn encode(picture: RgbView<'_>) -> Result<Vec<u8>, Invalid> {
    let (width, height) = picture.size();
    let mut bytes = Vec::with_capacity(picture.pixels().len() / 8);
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode(picture.pixels(), width, height, ExtendedColorType::Rgb8)
        .map_err(|error| codec("encode", &error))?;
    Ok(bytes)
}

fn codec(action: &'static str, error: &image::ImageError) -> Invalid {
    Invalid::Codec {
        action,
        detail: error.to_string(),
    }
}
