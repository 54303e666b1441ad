//! PNG: the header, the chunk that holds the orientation, and what decoding costs.
//!
//! Layout: Portable Network Graphics specification, third edition, §5 and §11.

use std::{
    borrow::Cow,
    io::{Cursor, Read},
};

use flate2::read::ZlibDecoder;
use image::{Limits, codecs::png::PngDecoder};

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
    let mut transparent = false;
    // Of several the last counts, and Pillow reads them behind the pixels too.
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    for (kind, body) in chunks {
        match kind {
            b"eXIf" => exif = Some(body),
            b"tRNS" => transparent = true,
            b"tEXt" | b"zTXt" | b"iTXt" => match Text::read(kind, body) {
                Some(text) if text.keyword == b"Raw profile type exif" => profile = Some(text),
                Some(text) if text.keyword == b"XML:com.adobe.xmp" => xmp = Some(text),
                _ => {}
            },
            _ => {}
        }
    }
    // eXIf goes before the older way.
    let profile = profile.filter(|_| exif.is_none());
    let profile = profile.and_then(|text| raw_profile(&text.content()?));
    let xmp = xmp.and_then(Text::content);
    let orientation = exif::Sources {
        exif: exif.or(profile.as_deref()),
        xmp: xmp.as_deref(),
    }
    .orientation();
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

/// A text chunk (§11.3.3), not inflated yet.
struct Text<'a> {
    keyword: &'a [u8],
    compressed: bool,
    bytes: &'a [u8],
}

impl<'a> Text<'a> {
    fn read(kind: &[u8; 4], body: &'a [u8]) -> Option<Self> {
        let (keyword, rest) = split_at_zero(body)?;
        let (compressed, bytes) = match kind {
            b"tEXt" => (false, rest),
            b"zTXt" => (true, rest.strip_prefix(&[0])?),
            _ => {
                // Two bytes of compression, then a language and a keyword in it.
                let (&[compressed, _], rest) = rest.split_first_chunk::<2>()?;
                let (_, rest) = split_at_zero(rest)?;
                (compressed != 0, split_at_zero(rest)?.1)
            }
        };
        Some(Self {
            keyword,
            compressed,
            bytes,
        })
    }

    /// Pillow's bound for a chunk.
    const MAX_BYTES: u64 = 1 << 20;

    /// `None` if it does not inflate, or to more than [`Self::MAX_BYTES`].
    fn content(self) -> Option<Cow<'a, [u8]>> {
        if !self.compressed {
            return Some(Cow::Borrowed(self.bytes));
        }
        let mut content = Vec::new();
        ZlibDecoder::new(self.bytes)
            .take(Self::MAX_BYTES + 1)
            .read_to_end(&mut content)
            .ok()?;
        (content.len() as u64 <= Self::MAX_BYTES).then_some(Cow::Owned(content))
    }
}

fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// What ImageMagick wrote before there was an eXIf chunk: an empty line, a name, a length, and from the
/// fourth line on EXIF in hexadecimal.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.splitn(4, |&byte| byte == b'\n');
    let digits = lines
        .last()?
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace());
    let digits = digits.map(|&digit| char::from(digit).to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>()?;
    let (pairs, odd) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| (high << 4 | low) as u8);
    odd.is_empty().then(|| bytes.collect())
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
