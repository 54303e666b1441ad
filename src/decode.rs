//! Bytes → upright RGB8, under limits, fenced against panics.
//!
//! ```text
//!  bytes ──► peek ──► Header: format, upright size, cost in bytes     (nothing allocated yet)
//!              └──► DecodeBudget::admit ──► Permit                    (waits for memory and a core)
//!                      └──► decode ──► Picture                       (on a blocking thread)
//! ```
//!
//! Only the content decides the format: JPEG, PNG, WebP, or GIF; of animations the first frame.
//! What comes out is what Pillow's `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` gives,
//! compared in tests: lossless formats exactly, JPEG and lossy WebP within rounding. In
//! particular alpha is dropped without compositing, and colour profiles are ignored.
//!
//! Differences by choice:
//! * 16-bit grey keeps its high byte, as 16-bit colour does; Pillow turns all but the darkest
//!   1/256 of it white.
//! * Arithmetic-coded and lossless JPEG and GIF without any palette are refused.
//! * JPEGs whose progression lacks scans are refused; libjpeg smooths over what is missing.
//!
//! A JPEG that is far larger than the model needs can be decoded at a half or a quarter of
//! its size ([`decode_reduced`]), which is several times as fast and no longer exact.
//!
//! Like Pillow, a file that breaks off before its end is refused; bytes after the end are ignored.

mod budget;
mod color;
mod exif;
mod format;
mod gif;
#[cfg(test)]
pub(crate) mod goldens;
mod jpeg;
mod png;
#[cfg(test)]
mod tests;
mod webp;

use std::panic::{self, AssertUnwindSafe};

use image::metadata::Orientation;

pub use self::{
    budget::{DecodeBudget, Permit},
    color::Rgb8,
    format::Format,
};
use crate::error::{Error, Result};

/// What a picture may be at most; checked against its header, before anything is allocated.
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

/// What a picture's first bytes announce, within the limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// As its content says.
    pub format: Format,
    /// Pixels of the upright picture.
    pub width: u32,
    /// Pixels of the upright picture.
    pub height: u32,
    /// An upper estimate of the bytes that decoding holds at its peak, the result included, the
    /// upload not.
    pub cost_bytes: u64,
    orientation: Orientation,
    reducible: bool,
}

/// A decoded picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Its upright pixels.
    pub rgb: Rgb8,
    /// What it was sent as.
    pub format: Format,
    /// One pixel of `rgb` stands for this many of the picture in each direction; those at the right
    /// and lower edge may stand for fewer.
    pub reduction: u32,
    /// Whether the fast JPEG decoder took the file as it is: then its scan can be drawn again.
    drawn_as_sent: bool,
}

/// What one format's header says; sizes are those stored, before orientation.
struct Announced {
    width: u32,
    height: u32,
    orientation: Orientation,
    /// Bytes held at the peak of decoding to RGB8, the result included.
    decoding_bytes: u64,
    /// Whether it can be decoded at a smaller size with less work.
    reducible: bool,
}

/// Reads a picture's header. Costs no more than a walk over its chunks.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`] naming what the bytes look like, [`Error::ImageUndecodable`] for a
/// damaged header, [`Error::ImageTooLarge`] beyond `limits`.
pub fn peek(bytes: &[u8], limits: &Limits) -> Result<Header> {
    let format = Format::sniff(bytes)?;
    let announced = match format {
        Format::Jpeg => jpeg::peek(bytes),
        Format::Png => png::peek(bytes),
        Format::WebP => webp::peek(bytes),
        Format::Gif => gif::peek(bytes),
    }
    .map_err(|detail| undecodable(format, detail))?;
    limits.check(&announced, format)?;

    // Turning copies the picture once; by then the decoder's own memory is free again.
    let rgb_bytes = color::rgb_bytes(announced.width, announced.height);
    let turning_bytes = match announced.orientation {
        Orientation::NoTransforms => rgb_bytes,
        _ => 2 * rgb_bytes,
    };
    let (width, height) = if exif::swaps_sides(announced.orientation) {
        (announced.height, announced.width)
    } else {
        (announced.width, announced.height)
    };
    Ok(Header {
        format,
        width,
        height,
        cost_bytes: announced.decoding_bytes.max(turning_bytes),
        orientation: announced.orientation,
        reducible: announced.reducible,
    })
}

/// Decodes a picture whose `header` was read by [`peek`] from the same `bytes`.
///
/// Blocks for as long as it takes; for a blocking thread, under a [`Permit`]. A panic in a decoder
/// (hostile files do cause them) becomes an error.
///
/// # Errors
///
/// [`Error::ImageUndecodable`] for a damaged or truncated picture.
pub fn decode(bytes: &[u8], header: &Header) -> Result<Picture> {
    decode_reduced(bytes, header, 1)
}

/// The same at one `reduction`-th of the size, as [`Header::reduction_for`] found it possible. What
/// the reducing decoder does not take is decoded in full; [`Picture::reduction`] tells.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_reduced(bytes: &[u8], header: &Header, reduction: u32) -> Result<Picture> {
    let format = header.format;
    let decoded = panic::catch_unwind(AssertUnwindSafe(|| {
        let reduced = (reduction > 1)
            .then(|| jpeg::decode_reduced(bytes, header, reduction))
            .flatten();
        let (stored, reduction, drawn_as_sent) = match reduced {
            Some(reduced) => (reduced, reduction, false),
            None => {
                let (stored, drawn_as_sent) = in_full(bytes, header)?;
                (stored, 1, drawn_as_sent)
            }
        };
        Ok(Picture {
            rgb: exif::upright(stored, header.orientation),
            format,
            reduction,
            drawn_as_sent,
        })
    }));
    match decoded {
        Ok(Ok(picture)) => Ok(picture),
        Ok(Err(detail)) => Err(undecodable(format, detail)),
        Err(_) => Err(Error::DecoderPanicked {
            format: format.name(),
        }),
    }
}

/// Every stored pixel, and [`Picture::drawn_as_sent`].
fn in_full(bytes: &[u8], header: &Header) -> std::result::Result<(Rgb8, bool), String> {
    let rgb = match header.format {
        Format::Jpeg => return jpeg::decode(bytes, header),
        Format::Png => png::decode(bytes, header),
        Format::WebP => webp::decode(bytes, header),
        Format::Gif => gif::decode(bytes, header),
    };
    Ok((rgb?, false))
}

impl Header {
    /// How far a picture that will be resized to `width`×`height` may be reduced while it is decoded:
    /// to 1/4 or 1/2 if each side keeps at least [`Self::MARGIN`] times the wanted pixels; 1
    /// where that cannot be, and for everything but JPEG.
    ///
    /// An eighth is left out: there the decoder's rounding and colour planes move values by several
    /// levels.
    ///
    /// A turned picture is reduced only if its sides divide evenly: the blocks that stick out at the
    /// stored right and lower edge would come to lie elsewhere.
    pub fn reduction_for(&self, width: u32, height: u32) -> u32 {
        let fits = |reduction: u32| {
            let keeps = |side: u32, wanted: u32| {
                f64::from(side) >= Self::MARGIN * f64::from(wanted) * f64::from(reduction)
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
    const MARGIN: f64 = 3.0;

    /// Width and height as stored, before orientation.
    fn stored_size(&self) -> (u32, u32) {
        if exif::swaps_sides(self.orientation) {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }
}

impl Picture {
    /// The file itself as a copy to keep, if it is an upright JPEG in one sequential scan, of at most
    /// `max_side` pixels a side and no larger than such files usually are (two bits a pixel): without
    /// EXIF, comments and whatever else does not draw. `header` and `bytes` are those that this was
    /// decoded from. That the copy can be drawn is proven: the decoder that draws it has drawn this
    /// from the same tables and the same scan.
    pub fn plain_copy(&self, header: &Header, bytes: &[u8], max_side: u32) -> Option<Vec<u8>> {
        let small = header.width.max(header.height) <= max_side;
        let upright = header.orientation == Orientation::NoTransforms;
        if !self.drawn_as_sent || !small || !upright {
            return None;
        }
        let usual = header.width as usize * header.height as usize / 4 + Self::TABLES;
        jpeg::plain(bytes).filter(|copy| copy.len() <= usual)
    }

    /// What a JPEG takes besides its pixels.
    const TABLES: usize = 4096;
}

impl Limits {
    fn check(&self, announced: &Announced, format: Format) -> Result<()> {
        let &Announced { width, height, .. } = announced;
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
            detail,
        })
    }
}

fn undecodable(format: Format, detail: String) -> Error {
    Error::ImageUndecodable {
        format: format.name(),
        detail,
    }
}
