//! TIFF: the first page.
//!
//! Layout and terms: TIFF 6.0, and BigTIFF. Samples of 1, 2, 4, 8 and 16 bits are read, grey (either
//! way round), of a palette, RGB or CMYK, with or without others beside them, in strips or tiles,
//! together or each in a plane of its own; not packed, or with PackBits, LZW, Deflate or CCITT's
//! codes for fax. JPEG inside of TIFF is refused: what its header announces is bounded by nothing.

use std::{borrow::Cow, io::Cursor};

use image::metadata::Orientation;
use tiff::{
    ColorType,
    decoder::{Decoder, DecodingResult, Limits},
    tags::{SampleFormat, Tag},
};

use super::{Header, ParsedHeader, Rgb8, color, exif};

/// What lists of offsets and sizes of strips, a palette or a profile may have.
const MAX_VALUE_BYTES: usize = 4 << 20;
/// What the decoder may hold besides the samples.
const INTERMEDIATE_BYTES: usize = 1 << 20;

/// XMP (Adobe's specification, part 3).
const XMP: Tag = Tag::Unknown(700);
/// TIFF 6.0, section 18: alpha that the samples are multiplied with.
const ASSOCIATED_ALPHA: u16 = 1;

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn peek(bytes: &[u8]) -> Result<ParsedHeader, String> {
    let bytes = with_indices(bytes);
    let mut decoder = open(&bytes, usize::MAX)?;
    let (width, height) = decoder.dimensions().map_err(said)?;
    let layout = Samples::of(&mut decoder, width, matches!(bytes, Cow::Owned(_)))?;
    let turned = decoder.find_tag_unsigned::<u16>(Tag::Orientation);
    let orientation = match turned.ok().flatten() {
        Some(value) => value
            .try_into()
            .ok()
            .and_then(Orientation::from_exif)
            .unwrap_or(Orientation::NoTransforms),
        None => {
            let xmp = decoder.get_tag_u8_vec(XMP).ok();
            exif::Sources {
                exif: None,
                xmp: xmp.as_deref(),
            }
            .orientation()
        }
    };
    let rgb = color::rgb_bytes(width, height);
    Ok(ParsedHeader {
        width,
        height,
        orientation,
        decoding_bytes: (layout.bytes as u64).saturating_add(rgb),
        reducible: false,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Rgb8, String> {
    let (width, height) = header.stored_size();
    // What was planned for; the samples are a part of it.
    let most = usize::try_from(header.cost_bytes).unwrap_or(usize::MAX);
    let bytes = with_indices(bytes);
    let mut decoder = open(&bytes, most)?;
    if decoder.dimensions().map_err(said)? != (width, height) {
        return Err("its size is another one than it was".to_owned());
    }
    let samples = Samples::of(&mut decoder, width, matches!(bytes, Cow::Owned(_)))?;
    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(said)?;
    let raw = match result {
        DecodingResult::U8(raw) => raw,
        DecodingResult::U16(raw) => raw.into_iter().map(|sample| (sample >> 8) as u8).collect(),
        _ => return Err(UNREAD.to_owned()),
    };
    // Of 16 bits one of two bytes is left.
    let halved = |bytes: usize| bytes / samples.bytes_per_sample();
    let row = halved(layout.row_stride.map_or(0, |stride| stride.get()));
    let plane = match layout.planes {
        0 | 1 => None,
        _ => layout.plane_stride.map(|stride| halved(stride.get())),
    };
    if row == 0 || raw.len() < halved(layout.complete_len) {
        return Err("it is incomplete".to_owned());
    }
    let pixels = samples.to_rgb(&raw, row, plane, (width as usize, height as usize))?;
    Rgb8::new(width, height, pixels).ok_or_else(|| "it is incomplete".to_owned())
}

/// The decoder knows no palettes: where the first page has one, its samples are called
/// [`INDICES`] in a copy, which it takes for grey and [`Samples`] for what they are.
fn with_indices(bytes: &[u8]) -> Cow<'_, [u8]> {
    const PALETTE: u16 = 3;
    let Some((at, big_endian)) = photometric(bytes) else {
        return Cow::Borrowed(bytes);
    };
    let value = |number: u16| match big_endian {
        true => number.to_be_bytes(),
        false => number.to_le_bytes(),
    };
    if bytes.get(at..at + 2) != Some(&value(PALETTE)) {
        return Cow::Borrowed(bytes);
    }
    let mut bytes = bytes.to_vec();
    bytes[at..at + 2].copy_from_slice(&value(INDICES));
    Cow::Owned(bytes)
}

/// Grey from black.
const INDICES: u16 = 1;

/// Where the first directory says what its samples mean, and whether numbers are big-endian. Not of
/// BigTIFF, whose palettes are refused.
fn photometric(bytes: &[u8]) -> Option<(usize, bool)> {
    const TAG: u16 = 262;
    let big_endian = match bytes.first_chunk()? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let short = |at: usize| {
        let pair = *bytes.get(at..)?.first_chunk()?;
        Some(match big_endian {
            true => u16::from_be_bytes(pair),
            false => u16::from_le_bytes(pair),
        })
    };
    let long = *bytes.get(4..)?.first_chunk()?;
    let directory = match big_endian {
        true => u32::from_be_bytes(long),
        false => u32::from_le_bytes(long),
    } as usize;
    let entries = usize::from(short(directory)?);
    let entry = (0..entries)
        .map(|index| directory + 2 + 12 * index)
        .find(|&entry| short(entry) == Some(TAG))?;
    (entry + 10 <= bytes.len()).then_some((entry + 8, big_endian))
}

fn open(bytes: &[u8], most: usize) -> Result<Reader<'_>, String> {
    let mut limits = Limits::default();
    // Lists of values count as well.
    limits.decoding_buffer_size = most.max(MAX_VALUE_BYTES);
    limits.intermediate_buffer_size = INTERMEDIATE_BYTES;
    limits.ifd_value_size = MAX_VALUE_BYTES;
    let decoder = Decoder::new(Cursor::new(bytes)).map_err(said)?;
    Ok(decoder.with_limits(limits))
}

/// How a pixel is stored.
struct Samples {
    kind: Kind,
    bits: u8,
    /// Samples beside each other in a row, those that are not drawn included.
    together: usize,
    /// Bytes of all of them.
    bytes: usize,
}

/// What samples mean.
enum Kind {
    Grey,
    Palette(Vec<[u8; 3]>),
    Rgb,
    /// Multiplied with the alpha behind it.
    Premultiplied,
    Cmyk,
}

const UNREAD: &str = "its samples are of no kind that is read here: expected are 1, 2, 4, 8 or 16 \
                      bits of grey, a palette, RGB or CMYK; save it as RGB of 8 bits, or as PNG";

impl Samples {
    /// `indexed` as [`with_indices`] found it.
    fn of(decoder: &mut Reader<'_>, width: u32, indexed: bool) -> Result<Self, String> {
        // 6 and 7 are JPEG, for which the decoder is built without.
        if let Ok(Some(6 | 7)) = decoder.find_tag_unsigned::<u16>(Tag::Compression) {
            return Err(
                "it has JPEG inside, which is not read: save it with LZW or Deflate, or as JPEG"
                    .to_owned(),
            );
        }
        let color = decoder.colortype().map_err(said)?;
        let alpha = decoder
            .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)
            .map_err(said)?
            .and_then(|kinds| kinds.first().copied());
        let (kind, bits) = match color {
            ColorType::Gray(bits @ (1 | 2 | 4 | 8)) if indexed => (palette(decoder, bits)?, bits),
            ColorType::Gray(bits @ (1 | 2 | 4 | 8 | 16)) if !indexed => (Kind::Grey, bits),
            ColorType::Multiband {
                bit_depth: bits @ (8 | 16),
                ..
            } if !indexed => (Kind::Grey, bits),
            ColorType::RGBA(bits @ 8) if alpha == Some(ASSOCIATED_ALPHA) => {
                (Kind::Premultiplied, bits)
            }
            ColorType::RGB(bits @ (8 | 16)) | ColorType::RGBA(bits @ (8 | 16)) => (Kind::Rgb, bits),
            ColorType::CMYK(bits @ 8) => (Kind::Cmyk, bits),
            _ => return Err(UNREAD.to_owned()),
        };
        let layout = decoder.image_buffer_layout().map_err(said)?;
        if layout.sample_format != SampleFormat::Uint {
            return Err(UNREAD.to_owned());
        }
        let row_bits = layout.row_stride.map_or(0, |stride| 8 * stride.get());
        let together = match bits {
            ..8 => 1,
            _ => row_bits / usize::from(bits) / (width as usize).max(1),
        };
        let samples = Self {
            kind,
            bits,
            together,
            bytes: layout.complete_len,
        };
        match together + layout.planes - 1 < samples.drawn() {
            true => Err(UNREAD.to_owned()),
            false => Ok(samples),
        }
    }

    fn bytes_per_sample(&self) -> usize {
        usize::from(self.bits.div_ceil(8))
    }

    /// Samples of a pixel that are drawn.
    fn drawn(&self) -> usize {
        match self.kind {
            Kind::Grey | Kind::Palette(_) => 1,
            Kind::Rgb => 3,
            Kind::Premultiplied | Kind::Cmyk => 4,
        }
    }

    /// Pixels of samples whose rows have `row` bytes, and whose planes, if each has one, `plane`.
    fn to_rgb(
        &self,
        raw: &[u8],
        row: usize,
        plane: Option<usize>,
        (width, height): (usize, usize),
    ) -> Result<Vec<u8>, String> {
        let drawn = self.drawn();
        let incomplete = || "it is incomplete".to_owned();
        let mut pixels = Vec::with_capacity(3 * width * height);
        let mut pixel = [0; 4];
        for y in 0..height {
            for x in 0..width {
                for (at, sample) in pixel[..drawn].iter_mut().enumerate() {
                    let index = match (self.bits, plane) {
                        (..8, _) => y * row + x * usize::from(self.bits) / 8,
                        (_, Some(plane)) => at * plane + y * row + x,
                        (_, None) => y * row + x * self.together + at,
                    };
                    *sample = *raw.get(index).ok_or_else(incomplete)?;
                }
                if self.bits < 8 {
                    let bits = usize::from(self.bits);
                    let shift = 8 - bits - x * bits % 8;
                    pixel[0] = pixel[0] >> shift & ((1 << bits) - 1);
                }
                pixels.extend(self.color(pixel));
            }
        }
        Ok(pixels)
    }

    #[inline]
    fn color(&self, pixel: [u8; 4]) -> [u8; 3] {
        let [a, b, c, d] = pixel;
        match &self.kind {
            // Evenly from black to white.
            Kind::Grey if self.bits < 8 => [a * (255 / ((1 << self.bits) - 1)); 3],
            Kind::Grey => [a; 3],
            Kind::Palette(colors) => colors.get(usize::from(a)).copied().unwrap_or([0; 3]),
            Kind::Rgb => [a, b, c],
            Kind::Premultiplied => [a, b, c].map(|value| match d {
                0 => 0,
                _ => (255 * u32::from(value) / u32::from(d)).min(255) as u8,
            }),
            Kind::Cmyk => color::under_black([a, b, c].map(|ink| 255 - ink), 255 - d),
        }
    }
}

/// Red, green and blue one after the other, of 16 bits each; the high ones count, as in Pillow.
fn palette(decoder: &mut Reader<'_>, bits: u8) -> Result<Kind, String> {
    let values = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(said)?;
    let count = 1 << bits;
    if values.len() != 3 * count {
        return Err("its palette has another length than its samples need".to_owned());
    }
    let high = |at: usize| (values[at] >> 8) as u8;
    let colors = (0..count).map(|at| [high(at), high(count + at), high(2 * count + at)]);
    Ok(Kind::Palette(colors.collect()))
}

fn said(error: tiff::TiffError) -> String {
    error.to_string()
}
