//! BMP: the header, and what decoding costs.
//!
//! Layout: Microsoft's "Bitmap Storage" (`BITMAPFILEHEADER`, then one of several headers that their
//! own length tells apart).

use std::io::Cursor;

use image::{ImageDecoder, codecs::bmp::BmpDecoder, metadata::Orientation};

use super::{Header, ParsedHeader, Rgb8, color};

/// With alpha RGBA, and RGB8.
const BYTES_PER_PIXEL: u64 = 4 + 3;

/// The header of OS/2, with sides of 16 bits.
const CORE_HEADER: u32 = 12;

pub(super) fn peek(bytes: &[u8]) -> Result<ParsedHeader, String> {
    let size = match header_length(bytes) {
        Some(CORE_HEADER) => {
            let side = |at| {
                Some(u32::from(u16::from_le_bytes(
                    *bytes.get(at..)?.first_chunk()?,
                )))
            };
            side(18).zip(side(20))
        }
        _ => {
            // A height below zero is of rows from the top.
            let side = |at| Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
            side(18)
                .and_then(|width| u32::try_from(width).ok())
                .zip(side(22).map(i32::unsigned_abs))
        }
    };
    let (width, height) = size.ok_or("its header is damaged")?;
    Ok(ParsedHeader {
        width,
        height,
        orientation: Orientation::NoTransforms,
        decoding_bytes: (u64::from(width) * u64::from(height)).saturating_mul(BYTES_PER_PIXEL),
        reducible: false,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Rgb8, String> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    if decoder.color_type().bytes_per_pixel() > 4 {
        return Err("its samples are not of 8 bits".to_owned());
    }
    let decoded = color::read(decoder, header.stored_size())?;
    let Some(green_bits) = green_bits(bytes) else {
        return Ok(decoded);
    };
    let (width, height) = (decoded.width(), decoded.height());
    let mut pixels = decoded.into_pixels();
    let maps = [5, green_bits, 5].map(rounded_down);
    let (colors, _) = pixels.as_chunks_mut::<3>();
    for color in colors {
        for (value, map) in color.iter_mut().zip(&maps) {
            *value = map[usize::from(*value)];
        }
    }
    Rgb8::new(width, height, pixels).ok_or_else(|| "it is incomplete".to_owned())
}

/// How many bits green has in pixels of 16 bits; `None` of all others.
fn green_bits(bytes: &[u8]) -> Option<u32> {
    const GREEN_MASK: usize = 58;
    if header_length(bytes) == Some(CORE_HEADER) || bytes.get(28..30) != Some(&[16, 0]) {
        return None;
    }
    // Without masks, or with those that say the same, each color has five.
    let has_masks = bytes.get(30..34) == Some(&[3, 0, 0, 0]);
    let mask = bytes.get(GREEN_MASK..GREEN_MASK + 4);
    Some(5 + u32::from(has_masks && mask == Some(&[0xe0, 7, 0, 0])))
}

/// From what the decoder makes of so many bits, which is rounded to the nearest, to what Pillow
/// does, which is rounded down.
fn rounded_down(bits: u32) -> [u8; 256] {
    let most = (1 << bits) - 1;
    std::array::from_fn(|value| {
        let stored = (value * most + 127) / 255;
        (stored * 255 / most) as u8
    })
}

fn header_length(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(14..)?.first_chunk()?))
}
