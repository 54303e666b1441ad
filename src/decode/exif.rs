//! Orientation: how a stored picture has to be turned to be upright.
//!
//! As Pillow's `exif_transpose` finds it: in EXIF, or if that has none in XMP. EXIF is a TIFF structure
//! (TIFF 6.0, section 2; the tag: EXIF 2.32, section 4.6.4).

use image::{DynamicImage, metadata::Orientation};
use memchr::memmem;

use super::Rgb8;

/// Where a file may say how it is turned.
#[derive(Default)]
pub(super) struct Sources<'a> {
    /// A TIFF structure, with or without `Exif\0\0` before it.
    pub(super) exif: Option<&'a [u8]>,
    pub(super) xmp: Option<&'a [u8]>,
}

impl Sources<'_> {
    /// What EXIF says, or else XMP; upright if neither does.
    pub(super) fn orientation(&self) -> Orientation {
        let said = self.exif.and_then(from_exif);
        let said = said.or_else(|| self.xmp.and_then(from_xmp));
        said.and_then(|value| Orientation::from_exif(value.try_into().ok()?))
            .unwrap_or(Orientation::NoTransforms)
    }
}

const ORIENTATION: u16 = 0x112;

/// The tag's value, whatever it is. Numbers of 16 and 32 bits are taken, as Pillow does; of several
/// entries the last.
fn from_exif(mut exif: &[u8]) -> Option<u32> {
    while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
        exif = rest;
    }
    let big = match exif.first_chunk::<4>()? {
        b"MM\0*" | b"MM*\0" => true,
        b"II*\0" | b"II\0*" => false,
        _ => return None,
    };
    let bytes = |at: usize, count: usize| exif.get(at..at.checked_add(count)?);
    let number = |at: usize, count: usize| {
        let bytes = bytes(at, count)?;
        let add = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
        Some(match big {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        })
    };
    let directory = number(4, 4)? as usize;
    let entries = number(directory, 2)? as usize;
    let mut said = None;
    for index in 0..entries {
        let entry = directory.checked_add(2 + 12 * index)?;
        let Some(tag) = number(entry, 2) else { break };
        if tag != u32::from(ORIENTATION) {
            continue;
        }
        // SHORT and SSHORT, LONG and SLONG.
        let size = match number(entry + 2, 2)? {
            3 | 8 => 2,
            4 | 9 => 4,
            _ => continue,
        };
        let inline = number(entry + 4, 4)? as usize * size <= 4;
        let place = if inline {
            entry + 8
        } else {
            number(entry + 8, 4)? as usize
        };
        said = number(place, size).or(said);
    }
    said
}

/// The first `tiff:Orientation`, as attribute or element.
fn from_xmp(xmp: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    memmem::find_iter(xmp, NAME).find_map(|at| {
        let rest = &xmp[at + NAME.len()..];
        let value = rest
            .strip_prefix(b"=\"")
            .or_else(|| rest.strip_prefix(b">"))?;
        value
            .first()
            .filter(|digit| digit.is_ascii_digit())
            .map(|digit| u32::from(digit - b'0'))
    })
}

/// Whether turning exchanges width and height.
pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// Turns a stored picture upright.
pub(super) fn upright(stored: Rgb8, orientation: Orientation) -> Rgb8 {
    if orientation == Orientation::NoTransforms {
        return stored;
    }
    let mut picture = DynamicImage::ImageRgb8(stored.into());
    picture.apply_orientation(orientation);
    picture.into_rgb8().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiff(kind: u8, value: [u8; 4]) -> Vec<u8> {
        let [a, b, c, d] = value;
        [
            &b"MM\0*\0\0\0\x08\0\x01\x01\x12\0"[..],
            &[kind, 0, 0, 0, 1, a, b, c, d],
        ]
        .concat()
    }

    fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
        Sources { exif, xmp }.orientation()
    }

    #[test]
    fn numbers_of_both_sizes_are_taken_and_others_are_not() {
        let short = tiff(3, [0, 6, 0, 0]);
        let long = tiff(4, [0, 0, 0, 6]);
        let bytes = tiff(1, [6, 0, 0, 0]);
        assert_eq!(orientation(Some(&short), None), Orientation::Rotate90);
        assert_eq!(orientation(Some(&long), None), Orientation::Rotate90);
        assert_eq!(orientation(Some(&bytes), None), Orientation::NoTransforms);
    }

    #[test]
    fn a_prefix_before_the_structure_is_passed_over() {
        let twice = [b"Exif\0\0Exif\0\0", &tiff(3, [0, 8, 0, 0])[..]].concat();
        assert_eq!(orientation(Some(&twice), None), Orientation::Rotate270);
    }

    #[test]
    fn xmp_counts_where_exif_says_nothing() {
        let xmp = br#"<x tiff:Orientation="x" tiff:Orientation="3"/>"#;
        let element = b"<tiff:Orientation>8</tiff:Orientation>";
        let says_upright = tiff(3, [0, 1, 0, 0]);
        assert_eq!(orientation(None, Some(xmp)), Orientation::Rotate180);
        assert_eq!(
            orientation(Some(b"II"), Some(element)),
            Orientation::Rotate270
        );
        assert_eq!(
            orientation(Some(&says_upright), Some(xmp)),
            Orientation::NoTransforms
        );
    }

    #[test]
    fn directories_that_lead_nowhere_say_nothing() {
        let mut far = tiff(3, [0, 6, 0, 0]);
        far[4..8].fill(0xff);
        assert_eq!(orientation(Some(&far), None), Orientation::NoTransforms);
        for end in 0..far.len() {
            let _ = orientation(Some(&tiff(4, [0, 0, 0, 6])[..end]), None);
        }
        let mut many = tiff(3, [0, 6, 0, 0]);
        many[14..18].fill(0xff);
        assert_eq!(orientation(Some(&many), None), Orientation::NoTransforms);
    }
}
