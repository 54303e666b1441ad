//! Pixels as a PNG file: nothing but the image, the same bytes every time.

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};

use super::{RenderError, RgbView};

/// Encodes RGB pixels as an 8-bit RGB PNG, quickly rather than small.
///
/// # Errors
///
/// When the encoder fails.
pub fn png(image: RgbView<'_>) -> Result<Vec<u8>, RenderError> {
    let (width, height) = image.size();
    let mut bytes = Vec::with_capacity(image.pixels().len() / 2);
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(image.pixels(), width, height, ExtendedColorType::Rgb8)
        .map_err(|error| RenderError::Codec {
            action: "encode",
            detail: error.to_string(),
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_back_and_the_bytes_are_the_same_every_time() {
        let pixels: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let view = RgbView::new(7, 5, &pixels).unwrap();
        let bytes = png(view).unwrap();
        assert_eq!(bytes, png(view).unwrap());
        let decoded = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png)
            .unwrap()
            .into_rgb8();
        assert_eq!(decoded.dimensions(), (7, 5));
        assert_eq!(decoded.into_raw(), pixels);
    }

    #[test]
    fn the_file_holds_no_other_chunks() {
        let bytes = png(RgbView::new(1, 1, &[1, 2, 3]).unwrap()).unwrap();
        let mut kinds = Vec::new();
        let mut rest = &bytes[8..];
        while let [a, b, c, d, kind @ ..] = rest {
            kinds.push(String::from_utf8_lossy(&kind[..4]).into_owned());
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            rest = &kind[4 + length + 4..];
        }
        assert_eq!(kinds, ["IHDR", "IDAT", "IEND"]);
    }
}
