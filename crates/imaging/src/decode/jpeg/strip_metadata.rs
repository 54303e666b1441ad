//! Strips a JPEG of everything that is not needed to draw it.

use super::{
    APP0, APP1, APP14, APP15, COM, DHT, DQT, DRI, EOI, SOF_BASELINE, SOF_EXTENDED, SOS, Segments,
};

/// The same image without EXIF, comments, thumbnails, color profiles and whatever follows its end,
/// byte for byte otherwise. Only for baseline JPEGs with all pixels in one sequential scan; `None`
/// for any other.
///
/// Layout: ITU-T T.81, annex B; JFIF in T.871; Adobe's marker (12 bytes) in its technical note
/// 5116.
pub(in crate::decode) fn strip_metadata(bytes: &[u8]) -> Option<Vec<u8>> {
    let (start, rest) = bytes.split_at_checked(2)?;
    let mut out = start.to_vec();
    let mut segments = Segments { rest };
    loop {
        match segments.next()? {
            // Grey, or colors of three parts.
            (SOF_BASELINE | SOF_EXTENDED, body) if !matches!(body.get(5), Some(1 | 3)) => {
                return None;
            }
            (marker @ (SOF_BASELINE | SOF_EXTENDED | DHT | DQT | DRI), body) => {
                push(&mut out, marker, &[body])?;
            }
            // What says which colors there are. A thumbnail may follow the first, so it says 0 × 0.
            (APP0, body) if body.starts_with(b"JFIF\0") => {
                push(&mut out, APP0, &[body.get(..12)?, &[0, 0]])?;
            }
            (APP14, body) if body.starts_with(b"Adobe") => {
                push(&mut out, APP14, &[body.get(..12)?])?;
            }
            (APP0 | APP1..=APP15 | COM, _) => {}
            (SOS, body) => {
                push(&mut out, SOS, &[body])?;
                let pixels = segments.rest;
                let (EOI, _) = segments.next()? else {
                    return None;
                };
                out.extend_from_slice(&pixels[..pixels.len() - segments.rest.len()]);
                return Some(out);
            }
            _ => return None,
        }
    }
}

/// A segment: its marker, its length with the two bytes that say it, and its body in parts.
fn push(out: &mut Vec<u8>, marker: u8, body: &[&[u8]]) -> Option<()> {
    let length = 2 + body.iter().map(|part| part.len()).sum::<usize>();
    let length = u16::try_from(length).ok()?;
    out.extend_from_slice(&[0xff, marker]);
    out.extend_from_slice(&length.to_be_bytes());
    for part in body {
        out.extend_from_slice(part);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::decode::{Limits, decode, peek};

    /// Three of the samples are of this kind.
    fn sample(name: &str) -> Vec<u8> {
        fs::read(Path::new("../../models/samples").join(name)).unwrap()
    }

    fn pixels(bytes: &[u8]) -> Vec<u8> {
        let header = peek(bytes, &Limits::default()).unwrap();
        decode(bytes, &header).unwrap().rgb.pixels().to_vec()
    }

    /// The image with segments put behind its first two bytes.
    fn with(segments: &[(u8, &[u8])], image: &[u8]) -> Vec<u8> {
        let mut bytes = image[..2].to_vec();
        for (marker, body) in segments {
            push(&mut bytes, *marker, &[body]).unwrap();
        }
        bytes.extend_from_slice(&image[2..]);
        bytes
    }

    #[test]
    fn pixels_stay_and_what_else_a_file_says_goes() {
        for name in ["penguin.jpg", "guitar.jpg", "dog.jpg"] {
            let original = sample(name);
            let mut with_metadata = with(
                &[
                    (APP1, b"Exif\0\0a secret place"),
                    (0xe2, b"ICC_PROFILE\0\x01\x01 a secret profile"),
                    (COM, b"a secret remark"),
                ],
                &original,
            );
            with_metadata.extend_from_slice(b"a secret film");
            let out = strip_metadata(&with_metadata).unwrap();
            assert_eq!(pixels(&out), pixels(&original), "{name}");
            assert!(out.len() <= original.len(), "{name}");
            let secret = out.windows(6).any(|window| window == b"secret");
            assert!(!secret, "{name}");
        }
    }

    #[test]
    fn a_thumbnail_in_the_first_segment_goes_and_its_colors_stay() {
        let jfif = |thumbnail: &[u8]| {
            let mut body = b"JFIF\0\x01\x02\0\0\x01\0\x01\x02\x01".to_vec();
            body.extend_from_slice(thumbnail);
            body
        };
        let original = sample("penguin.jpg");
        let out = strip_metadata(&with(&[(APP0, &jfif(b"secret"))], &original)).unwrap();
        assert_eq!(pixels(&out), pixels(&original));
        assert!(!out.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn other_than_baseline_jpeg_of_one_scan_is_none() {
        let original = sample("penguin.jpg");
        assert_eq!(
            strip_metadata(&original[..original.len() - 2]),
            None,
            "truncated"
        );
        assert_eq!(strip_metadata(b""), None);
        // A second scan.
        let end = original.len() - 2;
        let mut scans = original[..end].to_vec();
        push(&mut scans, SOS, &[&[1, 1, 0, 0, 63, 0]]).unwrap();
        scans.extend_from_slice(&original[end..]);
        assert_eq!(strip_metadata(&scans), None);
        // Progressive.
        let frame = original.windows(2).position(|at| at == [0xff, 0xc0]);
        let mut progressive = original;
        progressive[frame.unwrap() + 1] = 0xc2;
        assert_eq!(strip_metadata(&progressive), None);
    }
}
