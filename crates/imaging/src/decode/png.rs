//! PNG: the header, the chunk that holds the orientation, and what decoding costs.
//!
//! Layout: Portable Network Graphics specification, third edition, §5 and §11.

use std::{borrow::Cow, io::Cursor};

use image::{Limits, codecs::png::PngDecoder, metadata::Orientation};

use super::{Announced, Header, Rgb8, color, exif};

/// What the decoder may hold besides the pixels: text, profiles, one row.
const METADATA_BYTES: u64 = 8 << 20;

pub(super) fn peek(bytes: &[u8]) -> Result<Announced, String> {
    let mut chunks = Chunks { rest: &bytes[8..] };
    let Some((b"IHDR", &[w0, w1, w2, w3, h0, h1, h2, h3, depth, colour, ..])) = chunks.next()
    else {
        return Err("its first chunk is not a header".to_owned());
    };
    let width = u32::from_be_bytes([w0, w1, w2, w3]);
    let height = u32::from_be_bytes([h0, h1, h2, h3]);
    let mut orientation = Orientation::NoTransforms;
    let mut transparent = false;
    for (kind, body) in chunks {
        match kind {
            // Pillow reads it behind the pixels too.
            b"eXIf" => orientation = exif::orientation(body),
            b"tRNS" => transparent = true,
            _ => {}
        }
    }
    // Palettes are expanded to three samples, transparency to one more.
    let samples = match colour {
        0 => 1 + u64::from(transparent),
        4 => 2,
        2 | 3 => 3 + u64::from(transparent),
        _ => 4,
    };
    let pixels = u64::from(width) * u64::from(height);
    let raw_bytes = samples * if depth == 16 { 2 } else { 1 };
    // The decoder's own format and RGB8 exist together, unless they are the same.
    let bytes_per_pixel = if raw_bytes == 3 { 3 } else { raw_bytes + 3 };
    Ok(Announced {
        width,
        height,
        orientation,
        decoding_bytes: pixels.saturating_mul(bytes_per_pixel),
        reducible: false,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Rgb8, String> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(METADATA_BYTES.saturating_add(header.cost_bytes));
    let decoder = PngDecoder::with_limits(Cursor::new(with_end(bytes)), limits)
        .map_err(|error| error.to_string())?;
    color::read(decoder, header.stored_size())
}

/// Adds the end marker where only that is missing: Pillow does without it, the decoder does not.
fn with_end(bytes: &[u8]) -> Cow<'_, [u8]> {
    const END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";
    let mut chunks = Chunks { rest: &bytes[8..] };
    let ended = chunks.by_ref().any(|(kind, _)| kind == b"IEND");
    if ended || !chunks.rest.is_empty() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned([bytes, END].concat())
}

/// The chunks that are complete, without their checksums, which the decoder checks.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (body, rest) = rest.split_at_checked(length)?;
        self.rest = rest.get(4..)?;
        Some((kind, body))
    }
}
