//! Bytes → upright RGB8, under limits; panics of decoders become errors.
//!
//! ```text
//!  bytes ──► peek ──► Header: format, upright size, cost in bytes     (nothing allocated yet)
//!              └──► decode ──► Image                       (on a blocking thread)
//! ```
//!
//! Only the content decides the [`Format`]; of animations the first frame is taken, of several pages
//! the first.
//! What comes out is what Pillow's `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` gives,
//! compared in tests: lossless formats exactly, JPEG and lossy WebP within rounding. In
//! particular alpha is dropped without compositing, and color profiles are ignored.
//!
//! Differences by choice:
//! * 16-bit grey keeps its high byte, as 16-bit color does; Pillow turns all but the darkest
//!   1/256 of it white.
//! * Arithmetic-coded and lossless JPEG and GIF without any palette are refused.
//! * JPEGs whose progression lacks scans are refused; libjpeg smooths over what is missing.
//!
//! A JPEG that is far larger than the model needs can be decoded at a half or a quarter of
//! its size ([`decode_reduced`]), which is several times as fast and no longer exact.
//!
//! Like Pillow, a file that breaks off before its end is refused; bytes after the end are ignored.

mod bmp;
mod color;
mod exif;
mod gif;
#[cfg(test)]
pub(crate) mod goldens;
mod guess;
mod jpeg;
mod png;
#[cfg(test)]
mod tests;
mod tiff;
mod webp;

use std::panic::{self, AssertUnwindSafe};

use image::metadata::Orientation;

pub use self::color::Rgb8;
pub use crate::format::Format;

use crate::error::{Error, Result};

/// What an image may be at most; checked against its header, before anything is allocated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Width × height.
    pub max_pixels: u64,
    /// Width, and height.
    pub max_side: u32,
}

impl Default for Limits {
    /// 40 megapixels; 16 384 a side, which is also about what WebP and most JPEG writers can do.
    fn default() -> Self {
        Self {
            max_pixels: 40_000_000,
            max_side: 16_384,
        }
    }
}

/// Whether JPEGs that are far larger than the model needs are decoded at a fraction of their size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JpegScaling {
    /// Where [`Header::reduction_for`] finds it possible.
    Auto,
    /// Never: every pixel is decoded, and resized as Pillow does it.
    Off,
}

/// What an image's header says, within the limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// As its content says.
    pub format: Format,
    /// Pixels of the upright image.
    pub width: u32,
    /// Pixels of the upright image.
    pub height: u32,
    /// An upper estimate of the bytes that decoding holds at its peak, the result included, the
    /// upload not.
    pub cost_bytes: u64,
    orientation: Orientation,
    reducible: bool,
}

/// A decoded image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its upright pixels.
    pub rgb: Rgb8,
    /// What it was sent as.
    pub format: Format,
    /// One pixel of `rgb` stands for this many of the image in each direction; those at the right
    /// and lower edge may stand for fewer.
    pub reduction: u32,
    /// Whether the fast JPEG decoder took the file as it is: then its scan can be drawn again.
    drawn_as_sent: bool,
}

/// What one format's header says; sizes are those stored, before orientation.
struct ParsedHeader {
    width: u32,
    height: u32,
    orientation: Orientation,
    /// Bytes held at the peak of decoding to RGB8, the result included.
    decoding_bytes: u64,
    /// Whether it can be decoded at a smaller size with less work.
    reducible: bool,
}

/// Reads a header; an error says what is wrong with the file.
type Peek = fn(&[u8]) -> std::result::Result<ParsedHeader, String>;

/// Every stored pixel, and [`Image::drawn_as_sent`].
type Decode = fn(&[u8], &Header) -> std::result::Result<(Rgb8, bool), String>;

/// How a format is read.
struct Decoder {
    peek: Peek,
    decode: Decode,
}

impl Decoder {
    const fn of(format: Format) -> Self {
        match format {
            Format::Jpeg => Self {
                peek: jpeg::peek,
                decode: jpeg::decode,
            },
            Format::Png => Self {
                peek: png::peek,
                decode: |bytes, header| Ok((png::decode(bytes, header)?, false)),
            },
            Format::WebP => Self {
                peek: webp::peek,
                decode: |bytes, header| Ok((webp::decode(bytes, header)?, false)),
            },
            Format::Gif => Self {
                peek: gif::peek,
                decode: |bytes, header| Ok((gif::decode(bytes, header)?, false)),
            },
            Format::Bmp => Self {
                peek: bmp::peek,
                decode: |bytes, header| Ok((bmp::decode(bytes, header)?, false)),
            },
            Format::Tiff => Self {
                peek: tiff::peek,
                decode: |bytes, header| Ok((tiff::decode(bytes, header)?, false)),
            },
        }
    }
}

/// Reads an image's header. Costs no more than a walk over its chunks.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`] naming what the bytes look like, [`Error::ImageUndecodable`] for a
/// damaged header, [`Error::ImageTooLarge`] beyond `limits`.
pub fn peek(bytes: &[u8], limits: &Limits) -> Result<Header> {
    let format = Format::of(bytes).ok_or_else(|| Error::UnsupportedFormat {
        found: guess::guess(bytes).into(),
    })?;
    let peek = Decoder::of(format).peek;
    let parsed = peek(bytes).map_err(|detail| undecodable(format, detail))?;
    limits.check(&parsed, format)?;

    // Turning copies the image once; by then the decoder's own memory is free again.
    let rgb_bytes = color::rgb_bytes(parsed.width, parsed.height);
    let turning_bytes = match parsed.orientation {
        Orientation::NoTransforms => rgb_bytes,
        _ => 2 * rgb_bytes,
    };
    let (width, height) = if exif::swaps_sides(parsed.orientation) {
        (parsed.height, parsed.width)
    } else {
        (parsed.width, parsed.height)
    };
    Ok(Header {
        format,
        width,
        height,
        cost_bytes: parsed.decoding_bytes.max(turning_bytes),
        orientation: parsed.orientation,
        reducible: parsed.reducible,
    })
}

/// Decodes an image whose `header` was read by [`peek`] from the same `bytes`.
///
/// Blocks for as long as it takes; for a blocking thread. A panic in a decoder
/// (hostile files do cause them) becomes an error.
///
/// # Errors
///
/// [`Error::ImageUndecodable`] for a damaged or truncated image.
pub fn decode(bytes: &[u8], header: &Header) -> Result<Image> {
    decode_reduced(bytes, header, 1)
}

/// The same at one `reduction`-th of the size, as [`Header::reduction_for`] found it possible. What
/// the reducing decoder does not take is decoded in full; [`Image::reduction`] tells.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_reduced(bytes: &[u8], header: &Header, reduction: u32) -> Result<Image> {
    let format = header.format;
    let decoded = panic::catch_unwind(AssertUnwindSafe(|| {
        let reduced = (reduction > 1)
            .then(|| jpeg::decode_reduced(bytes, header, reduction))
            .flatten();
        let (stored, reduction, drawn_as_sent) = match reduced {
            Some(reduced) => (reduced, reduction, false),
            None => {
                let (stored, drawn_as_sent) = (Decoder::of(format).decode)(bytes, header)?;
                (stored, 1, drawn_as_sent)
            }
        };
        Ok(Image {
            rgb: exif::upright(stored, header.orientation),
            format,
            reduction,
            drawn_as_sent,
        })
    }));
    match decoded {
        Ok(Ok(image)) => Ok(image),
        Ok(Err(detail)) => Err(undecodable(format, detail)),
        Err(_) => Err(Error::DecoderPanicked {
            format: format.name(),
        }),
    }
}

impl Header {
    /// How far an image that will be resized to `width`×`height` may be reduced while it is
    /// decoded: to 1/4 or 1/2 if each side keeps at least `MIN_OVERSAMPLING` times the
    /// wanted pixels; 1 where that cannot be, and for everything but JPEG.
    ///
    /// An eighth is left out: there the decoder's rounding and color planes move values by several
    /// levels.
    ///
    /// A turned image is reduced only if its sides divide evenly: the blocks that stick out at the
    /// stored right and lower edge would come to lie elsewhere.
    pub fn reduction_for(&self, width: u32, height: u32) -> u32 {
        let fits = |reduction: u32| {
            let keeps = |side: u32, wanted: u32| {
                f64::from(side) >= Self::MIN_OVERSAMPLING * f64::from(wanted) * f64::from(reduction)
            };
            let even =
                self.width.is_multiple_of(reduction) && self.height.is_multiple_of(reduction);
            keeps(self.width, width)
                && keeps(self.height, height)
                && (even || self.orientation == Orientation::NoTransforms)
        };
        let reductions = [4, 2].into_iter();
        reductions
            .filter(|_| self.reducible)
            .find(|&reduction| fits(reduction))
            .unwrap_or(1)
    }

    /// What a reduced side keeps of the wanted one, at least: enough that the resize after it still
    /// does the greater part of the smoothing. docs/performance.md says what it costs in exactness,
    /// and what half of it would.
    const MIN_OVERSAMPLING: f64 = 3.0;

    /// Width and height as stored, before orientation.
    fn stored_size(&self) -> (u32, u32) {
        if exif::swaps_sides(self.orientation) {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }
}

impl Image {
    /// The file itself as a preview, if it is an upright JPEG in one sequential scan, of at most
    /// `max_side` pixels a side and [`MAX_COPY_BYTES`](Self::MAX_COPY_BYTES), and no larger than
    /// such files of high quality are: without EXIF, comments and whatever else does not draw.
    /// `header` and `bytes` are those that this was decoded from. That the preview can be drawn is
    /// proven: the decoder that draws it has drawn this from the same tables and the same scan.
    pub fn stripped_copy(&self, header: &Header, bytes: &[u8], max_side: u32) -> Option<Vec<u8>> {
        let small = header.width.max(header.height) <= max_side;
        let upright = header.orientation == Orientation::NoTransforms;
        if !self.drawn_as_sent || !small || !upright {
            return None;
        }
        // A byte a pixel: detailed photographs at quality 95 take half of it.
        let best = header.width as usize * header.height as usize + Self::JPEG_OVERHEAD_BYTES;
        let most = best.min(Self::MAX_COPY_BYTES);
        jpeg::strip_metadata(bytes).filter(|copy| copy.len() <= most)
    }

    /// What a JPEG takes besides its pixels.
    const JPEG_OVERHEAD_BYTES: usize = 4096;

    /// What an upload that is kept as a preview takes at most: two bits for each pixel of the
    /// largest preview, about what encoding it anew takes.
    pub const MAX_COPY_BYTES: usize = (1024 * 1024) / 4 + Self::JPEG_OVERHEAD_BYTES;
}

impl Limits {
    fn check(&self, parsed: &ParsedHeader, format: Format) -> Result<()> {
        let &ParsedHeader { width, height, .. } = parsed;
        if width == 0 || height == 0 {
            return Err(undecodable(
                format,
                format!("it announces {width}×{height} pixels"),
            ));
        }
        let detail = if width.max(height) > self.max_side {
            format!("a side may have {} pixels at most", self.max_side)
        } else if u64::from(width) * u64::from(height) > self.max_pixels {
            format!("it may have {} pixels at most", self.max_pixels)
        } else {
            return Ok(());
        };
        Err(Error::ImageTooLarge {
            width,
            height,
            detail: detail.into(),
        })
    }
}

fn undecodable(format: Format, detail: String) -> Error {
    Error::ImageUndecodable {
        format: format.name(),
        detail: detail.into(),
    }
}
