//! WebP: the header, the chunk that holds the orientation, and what decoding costs.
//!
//! Layout: RFC 9649 (container and lossless), RFC 6386 §9.1 (lossy). The decoder has no memory
//! limit of its own and allocates by the frame's size before it compares it with the canvas, so
//! both are read and compared here.

use std::{borrow::Cow, io::Cursor};

use image::{Rgba, codecs::webp::WebPDecoder, metadata::Orientation};

use super::{Announced, Header, Rgb8, color, exif};

/// Lossless with alpha dropped: RGBA, the palette or predictor's copy of it, and RGB8.
const STILL_BYTES_PER_PIXEL: u64 = 4 + 4 + 3;
/// Besides that the canvas that frames are drawn on, as RGBA.
const ANIMATED_BYTES_PER_PIXEL: u64 = STILL_BYTES_PER_PIXEL + 4;

pub(super) fn peek(bytes: &[u8]) -> Result<Announced, String> {
    let mut chunks = Chunks { rest: &bytes[12..] };
    let (kind, body) = chunks.next().ok_or("it has no complete chunk")?;
    if kind != b"VP8X" {
        let (width, height) = frame_size(kind, body).ok_or("its frame's header is damaged")?;
        return Ok(announce(width, height, Orientation::NoTransforms, false));
    }
    let &[flags, _, _, _, w0, w1, w2, h0, h1, h2, ..] = body else {
        return Err("its canvas is damaged".to_owned());
    };
    let canvas = (size_24(w0, w1, w2), size_24(h0, h1, h2));
    let animated = flags & ANIMATION != 0;
    let mut turned = exif::Sources::default();
    for (kind, body) in chunks {
        match kind {
            // The first, and only if the canvas announces it: so does libwebp.
            b"EXIF" if flags & EXIF != 0 => turned.exif = turned.exif.or(Some(body)),
            b"XMP " if flags & XMP != 0 => turned.xmp = turned.xmp.or(Some(body)),
            b"ANMF" => check_animation_frame(body)?,
            b"VP8 " | b"VP8L" if frame_size(kind, body) != Some(canvas) => {
                return Err("its frame and its canvas differ in size".to_owned());
            }
            _ => {}
        }
    }
    let orientation = turned.orientation();
    Ok(announce(canvas.0, canvas.1, orientation, animated))
}

pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Rgb8, String> {
    let mut decoder =
        WebPDecoder::new(Cursor::new(with_true_flags(bytes))).map_err(|error| error.to_string())?;
    if decoder.has_animation() {
        // libwebp's animation decoder ignores the file's background too.
        decoder
            .set_background_color(Rgba([0; 4]))
            .map_err(|error| error.to_string())?;
    }
    color::read(decoder, header.stored_size())
}

/// What a canvas announces (RFC 9649, section 2.7.1).
const ALPHA: u8 = 0x10;
const EXIF: u8 = 0x08;
const XMP: u8 = 0x04;
const ANIMATION: u8 = 0x02;

/// Takes back what the canvas announces and the file does not have: libwebp and browsers do without it,
/// the decoder does not. (The alpha of a lossless frame lies in the frame.)
fn with_true_flags(bytes: &[u8]) -> Cow<'_, [u8]> {
    const FLAGS: usize = 20;
    let mut chunks = Chunks { rest: &bytes[12..] };
    let Some((b"VP8X", &[flags, ..])) = chunks.next() else {
        return Cow::Borrowed(bytes);
    };
    let mut missing = EXIF | XMP | ALPHA;
    for (kind, _) in chunks {
        missing &= !match kind {
            b"EXIF" => EXIF,
            b"XMP " => XMP,
            b"ALPH" | b"VP8L" | b"ANMF" => ALPHA,
            _ => 0,
        };
    }
    if flags & missing == 0 {
        return Cow::Borrowed(bytes);
    }
    let mut bytes = bytes.to_vec();
    bytes[FLAGS] &= !missing;
    Cow::Owned(bytes)
}

fn announce(width: u32, height: u32, orientation: Orientation, animated: bool) -> Announced {
    let bytes_per_pixel = if animated {
        ANIMATED_BYTES_PER_PIXEL
    } else {
        STILL_BYTES_PER_PIXEL
    };
    Announced {
        width,
        height,
        orientation,
        decoding_bytes: (u64::from(width) * u64::from(height)).saturating_mul(bytes_per_pixel),
        reducible: false,
    }
}

/// An animation frame's bitstream must have the size that its header gives.
fn check_animation_frame(body: &[u8]) -> Result<(), String> {
    let Some((&[_, _, _, _, _, _, w0, w1, w2, h0, h1, h2, ..], rest)) =
        body.split_first_chunk::<16>()
    else {
        return Err("a frame's header is damaged".to_owned());
    };
    let announced = (size_24(w0, w1, w2), size_24(h0, h1, h2));
    let stream = Chunks { rest }.find_map(|(kind, body)| frame_size(kind, body));
    if stream == Some(announced) {
        Ok(())
    } else {
        Err("a frame's header and its data differ in size".to_owned())
    }
}

/// The size that a lossy or lossless bitstream begins with; `None` for other chunks.
fn frame_size(kind: &[u8; 4], body: &[u8]) -> Option<(u32, u32)> {
    match (kind, body) {
        // Frame tag, start code, then 14 bits each with two bits of scaling above.
        (b"VP8 ", &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..]) => {
            let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            Some((side(w0, w1), side(h0, h1)))
        }
        // Signature, then 14 bits each of the sides less one.
        (b"VP8L", &[0x2f, b0, b1, b2, b3, ..]) => {
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => None,
    }
}

/// A side, stored less one in 24 bits.
fn size_24(b0: u8, b1: u8, b2: u8) -> u32 {
    u32::from_le_bytes([b0, b1, b2, 0]) + 1
}

/// The chunks, padded to even lengths; the last may be cut short, for the decoder to refuse.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let body = &rest[..length.min(rest.len())];
        self.rest = rest.get(length.saturating_add(length % 2)..).unwrap_or(&[]);
        Some((kind, body))
    }
}
