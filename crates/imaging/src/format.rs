//! The formats that are read, and how each is recognised and called.
//!
//! A new one is a variant of [`Format`] with its lines in [`Format::ALL`] and [`Format::row`]
//! here, a decoder in `decode/` with its line in `decode.rs`, and a line of docs/api.md.

use serde::Serialize;

/// A format that is served.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", schema(as = ImageFormat))]
pub enum Format {
    /// Baseline or progressive, Huffman-coded, 8 bits.
    Jpeg,
    /// All of it; the default image of an animated one.
    Png,
    /// Lossy or lossless; the first frame of an animated one.
    WebP,
    /// The first frame.
    Gif,
    /// Palettes, RGB with 16, 24 and 32 bits, run lengths.
    Bmp,
    /// The first page.
    Tiff,
}

/// What is known of a format besides its decoder.
struct Row {
    name: &'static str,
    media_type: &'static str,
    extensions: &'static [&'static str],
    /// Whether a file that begins so is of the format.
    recognizes: fn(&[u8]) -> bool,
}

impl Format {
    /// All of them, as they are listed.
    pub const ALL: [Self; 6] = [
        Self::Jpeg,
        Self::Png,
        Self::WebP,
        Self::Gif,
        Self::Bmp,
        Self::Tiff,
    ];

    fn row(self) -> Row {
        match self {
            Self::Jpeg => Row {
                name: "JPEG",
                media_type: "image/jpeg",
                extensions: &["jpg", "jpeg", "jpe", "jif", "jfif", "jfi"],
                recognizes: |bytes| bytes.starts_with(b"\xff\xd8\xff"),
            },
            Self::Png => Row {
                name: "PNG",
                media_type: "image/png",
                extensions: &["png"],
                recognizes: |bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
            },
            Self::WebP => Row {
                name: "WebP",
                media_type: "image/webp",
                extensions: &["webp"],
                recognizes: |bytes| bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
            },
            Self::Gif => Row {
                name: "GIF",
                media_type: "image/gif",
                extensions: &["gif"],
                recognizes: |bytes| bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a"),
            },
            Self::Bmp => Row {
                name: "BMP",
                media_type: "image/bmp",
                extensions: &["bmp", "dib"],
                recognizes: is_bmp,
            },
            Self::Tiff => Row {
                name: "TIFF",
                media_type: "image/tiff",
                extensions: &["tif", "tiff"],
                // The second two are BigTIFF.
                recognizes: |bytes| {
                    let starts = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
                    starts.iter().any(|start| bytes.starts_with(&start[..]))
                },
            },
        }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// As `Content-Type` names it (the registry of RFC 6838).
    pub fn media_type(self) -> &'static str {
        self.row().media_type
    }

    /// What names of its files end with, in lower case and without the dot.
    pub fn extensions(self) -> &'static [&'static str] {
        self.row().extensions
    }

    /// The format of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| (format.row().recognizes)(bytes))
    }

    /// All names: "JPEG, PNG, WebP, GIF, BMP or TIFF".
    pub(crate) fn list() -> String {
        let [first @ .., last] = Self::ALL.map(Self::name);
        format!("{} or {last}", first.join(", "))
    }
}

/// By the lengths that headers have as well: two letters alone begin texts, too.
fn is_bmp(bytes: &[u8]) -> bool {
    let length = bytes.get(14..18).and_then(|bytes| bytes.first_chunk());
    let length = length.map(|&length| u32::from_le_bytes(length));
    bytes.starts_with(b"BM") && matches!(length, Some(12 | 40 | 52 | 56 | 64 | 108 | 124))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_listed_for_people() {
        assert_eq!(Format::list(), "JPEG, PNG, WebP, GIF, BMP or TIFF");
    }

    #[test]
    fn no_two_formats_share_a_name_or_an_extension() {
        let names: BTreeSet<&str> = Format::ALL.map(Format::media_type).into();
        assert_eq!(names.len(), Format::ALL.len());
        let extensions = Format::ALL.into_iter().flat_map(Format::extensions);
        let distinct: BTreeSet<&&str> = extensions.clone().collect();
        assert_eq!(distinct.len(), extensions.count());
    }
}
