//! Why an image is refused.

use patchlight_escape::Detail;

use crate::format::Format;

/// The result of reading an image.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image is refused. The `Display` text is for the client that sent it.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// The bytes are not an image in a format that is served.
    #[error(
        "not an image that this server reads ({found}); send {}",
        Format::list()
    )]
    UnsupportedFormat {
        /// What the bytes look like.
        found: Detail,
    },

    /// The image is damaged.
    #[error("the {format} image cannot be decoded: {detail}")]
    ImageUndecodable {
        /// The format that its first bytes name.
        format: &'static str,
        /// What the decoder found.
        detail: Detail,
    },

    /// The decoder panicked, which hostile files make decoders do; the fence held.
    #[error("the {format} image is damaged in a way that its decoder does not survive")]
    DecoderPanicked {
        /// The format that its first bytes name.
        format: &'static str,
    },

    /// The image has too many pixels, too long a side, or needs too much memory to decode.
    #[error("the image is too large ({width}×{height}): {detail}")]
    ImageTooLarge {
        /// Width in the header, in pixels.
        width: u32,
        /// Height in the header, in pixels.
        height: u32,
        /// Which limit it exceeds.
        detail: Detail,
    },
}
