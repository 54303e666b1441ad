//! JPEG: the frame header, the orientation, whether the file is complete, and what decoding costs.
//!
//! Three decoders draw. What is usual ([`common`]) goes to a fast one, or to one that does less work at
//! a fraction of the size; everything else, and what a fast one refuses, to [`exact`], which does what
//! libjpeg-turbo does.
//!
//! Layout: ITU-T T.81, annex B.

mod common;
mod exact;
mod plain;
#[cfg(test)]
mod tests;

use jpeg_decoder::{ColorTransform, PixelFormat};
use memchr::memchr;
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

pub(super) use self::plain::plain;
use super::{Announced, Header, Rgb8, exif};

const SOF_BASELINE: u8 = 0xc0;
const SOF_EXTENDED: u8 = 0xc1;
const SOF_PROGRESSIVE: u8 = 0xc2;
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP14: u8 = 0xee;
const APP15: u8 = 0xef;
const COM: u8 = 0xfe;

/// What XMP begins with in a segment.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Pixels times scans: sixteen scans of 40 megapixels. Writers make ten to fourteen.
const MOST_SCANNED: u64 = 16 * 40_000_000;

/// Scans of a small picture.
const MOST_SCANS: u64 = 100;

pub(super) fn peek(bytes: &[u8]) -> Result<Announced, String> {
    let mut frame = None;
    let mut turned = exif::Sources::default();
    for (marker, body) in (Segments { rest: &bytes[2..] }) {
        match marker {
            SOF_BASELINE | SOF_EXTENDED | SOF_PROGRESSIVE if frame.is_none() => {
                frame = Some(Frame::read(marker, body)?);
            }
            DHT | JPG | DAC => {}
            0xc0..=0xcf => return Err(unsupported_frame(marker)),
            APP1 if body.starts_with(b"Exif\0\0") => {
                turned.exif = turned.exif.or(Some(body));
            }
            APP1 => turned.xmp = body.strip_prefix(XMP).or(turned.xmp),
            SOS => {
                let frame = frame.ok_or("its pixels begin before its header")?;
                let scanned = body.first().copied().map_or(0, usize::from);
                return Ok(Announced {
                    width: frame.width,
                    height: frame.height,
                    orientation: turned.orientation(),
                    decoding_bytes: frame.decoding_bytes(scanned),
                    reducible: frame.components.len() != 4,
                });
            }
            EOI => break,
            _ => {}
        }
    }
    Err("it ends before its pixels".to_owned())
}

/// Every pixel, and whether the fast decoder took the file without a complaint.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<(Rgb8, bool), String> {
    check_scans(bytes, header)?;
    let common = common::guarded(bytes);
    if let Some(rgb) = common.and_then(|copy| decode_common(&copy, header.stored_size())) {
        return Ok((rgb, true));
    }
    let rgb = exact::decode(bytes)?;
    if (rgb.width(), rgb.height()) != header.stored_size() {
        return Err("its size is not the one that it announced".to_owned());
    }
    Ok((rgb, false))
}

/// By the fast decoder, which gives up on whatever is damaged.
fn decode_common(bytes: &[u8], (width, height): (u32, u32)) -> Option<Rgb8> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().ok()?;
    let grey = decoder.input_colorspace()? == ColorSpace::Luma;
    let output = if grey {
        ColorSpace::Luma
    } else {
        ColorSpace::RGB
    };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let pixels = decoder.decode().ok()?;
    let pixels = match grey {
        true => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        false => pixels,
    };
    Rgb8::new(width, height, pixels)
}

/// Decodes at `1 / reduction` of the size, sides rounded up: each block of 8×8 pixels becomes one of
/// `8 / reduction`, out of its lowest frequencies. `None` where the file is not usual, or this decoder
/// gives up on what another one may take.
pub(super) fn decode_reduced(bytes: &[u8], header: &Header, reduction: u32) -> Option<Rgb8> {
    check_scans(bytes, header).ok()?;
    let copy = common::guarded(bytes)?;
    let (width, height) = header.stored_size();
    let side = |pixels: u32| u16::try_from(pixels.div_ceil(reduction));
    let (width, height) = (side(width).ok()?, side(height).ok()?);
    let mut decoder = jpeg_decoder::Decoder::new(&copy[..]);
    if decoder.scale(width, height).ok()? != (width, height) {
        return None;
    }
    if decoder.info()?.pixel_format == PixelFormat::RGB24 {
        decoder.set_color_transform(ColorTransform::YCbCr);
    }
    let pixels = decoder.decode().ok()?;
    let pixels = match decoder.info()?.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        PixelFormat::L16 | PixelFormat::CMYK32 => return None,
    };
    Rgb8::new(width.into(), height.into(), pixels)
}

/// What a frame header says.
struct Frame {
    width: u32,
    height: u32,
    progressive: bool,
    /// Horizontal and vertical sampling factors.
    components: Vec<(u8, u8)>,
}

impl Frame {
    fn read(marker: u8, body: &[u8]) -> Result<Self, String> {
        let Some((&[precision, h0, h1, w0, w1, count], components)) = body.split_first_chunk::<6>()
        else {
            return Err("its frame header is damaged".to_owned());
        };
        if precision != 8 {
            return Err(format!(
                "it has {precision} bits a sample; only 8 are supported"
            ));
        }
        let (components, _) = components.as_chunks::<3>();
        if components.len() != usize::from(count) {
            return Err("its frame header is damaged".to_owned());
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(format!("it has {count} color components"));
        }
        Ok(Self {
            width: u32::from(u16::from_be_bytes([w0, w1])),
            height: u32::from(u16::from_be_bytes([h0, h1])),
            progressive: marker == SOF_PROGRESSIVE,
            components: components
                .iter()
                .map(|&[_, factors, _]| (factors >> 4, factors & 0xf))
                .collect(),
        })
    }

    /// The pixels; for grey, the decoder's and RGB8; and where scans interleave over the whole
    /// picture, two bytes for each coefficient of whole blocks.
    fn decoding_bytes(&self, components_in_first_scan: usize) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let output = pixels * if self.components.len() == 1 { 1 + 3 } else { 3 };
        let in_one_scan = components_in_first_scan == self.components.len();
        if in_one_scan && !self.progressive {
            return output;
        }
        output + 2 * self.samples()
    }

    /// Samples of all components, in whole blocks of 8×8.
    fn samples(&self) -> u64 {
        let max = |factor: fn(&(u8, u8)) -> u8| self.components.iter().map(factor).max();
        let widest = u32::from(max(|&(h, _)| h).unwrap_or(1).max(1));
        let highest = u32::from(max(|&(_, v)| v).unwrap_or(1).max(1));
        let units = u64::from(self.width.div_ceil(8 * widest))
            * u64::from(self.height.div_ceil(8 * highest));
        let blocks = |&(h, v): &(u8, u8)| u64::from(h.max(1)) * u64::from(v.max(1));
        64 * units * self.components.iter().map(blocks).sum::<u64>()
    }
}

fn unsupported_frame(marker: u8) -> String {
    match marker {
        0xc3 | 0xc7 | 0xcb | 0xcf => "lossless JPEG is not supported".to_owned(),
        0xc9 | 0xca => "arithmetic coding is not supported".to_owned(),
        _ => "it has more than one frame".to_owned(),
    }
}

/// That the end is marked behind the pixels (the decoders fill up what is missing; Pillow refuses,
/// and so do we), and that the scans are not so many that walking over them takes for ever: each
/// may be a few bytes long, and costs a walk over the whole picture. Thumbnails inside segments do
/// not count.
fn check_scans(bytes: &[u8], header: &Header) -> Result<(), String> {
    let pixels = u64::from(header.width) * u64::from(header.height);
    let most = (MOST_SCANNED / pixels.max(1)).clamp(1, MOST_SCANS);
    let mut scans = 0;
    for (marker, _) in (Segments { rest: &bytes[2..] }) {
        match marker {
            SOS if scans == most => {
                return Err(format!("it has more than {most} scans"));
            }
            SOS => scans += 1,
            EOI if scans > 0 => return Ok(()),
            EOI => break,
            _ => {}
        }
    }
    Err("it is truncated".to_owned())
}

/// Markers with their segments; entropy-coded data and stray bytes between them are passed over.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = memchr(0xff, self.rest)?;
            let (&marker, rest) = self.rest[start + 1..].split_first()?;
            match marker {
                // Fill byte: the next may be the marker.
                0xff => self.rest = &self.rest[start + 1..],
                // A stuffed 0xff of the data, a restart, or a marker without a segment.
                0x00 | 0x01 | 0xd0..=0xd8 => self.rest = rest,
                EOI => {
                    self.rest = rest;
                    return Some((EOI, &[]));
                }
                _ => {
                    let (&length, _) = rest.split_first_chunk::<2>()?;
                    let length = usize::from(u16::from_be_bytes(length));
                    let (segment, rest) = rest.split_at_checked(length.max(2))?;
                    self.rest = rest;
                    return Some((marker, &segment[2..]));
                }
            }
        }
    }
}
