use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Goldens {
    #[serde(rename = "pictures")]
    images: Vec<ImageCase>,
    verdicts: Vec<Verdict>,
}

#[derive(Deserialize)]
struct ImageCase {
    file: String,
    lossy: bool,
    width: u32,
    height: u32,
    expected: Option<String>,
}

#[derive(Deserialize)]
struct Verdict {
    file: String,
    accepted: bool,
}

fn read(bytes: &[u8]) -> Result<Image> {
    decode(bytes, &peek(bytes, &Limits::default())?)
}

/// From the goldens of Pillow to those of BMP and TIFF.
const BMP_TIFF: &str = "../bmp_tiff/";

/// The goldens of all formats.
fn all_goldens() -> Goldens {
    let mut goldens: Goldens = goldens::json("decode.json");
    let mut others: Goldens = goldens::json(&format!("{BMP_TIFF}decode.json"));
    let place = |path: &mut String| path.insert_str(0, BMP_TIFF);
    for case in &mut others.images {
        place(&mut case.file);
        case.expected.iter_mut().for_each(place);
    }
    for verdict in &mut others.verdicts {
        place(&mut verdict.file);
    }
    goldens.images.append(&mut others.images);
    goldens.verdicts.append(&mut others.verdicts);
    goldens
}

#[test]
fn images_of_every_kind_are_what_pillow_makes_of_them() {
    let goldens = all_goldens();
    let mut faults = BTreeMap::new();
    for case in &goldens.images {
        let bytes = goldens::bytes(&case.file);
        let header = match peek(&bytes, &Limits::default()) {
            Ok(header) => header,
            Err(error) => {
                faults.insert(&case.file, error.to_string());
                continue;
            }
        };
        assert_eq!(
            (header.width, header.height),
            (case.width, case.height),
            "{}",
            case.file
        );
        match decode(&bytes, &header) {
            Err(error) => {
                faults.insert(&case.file, error.to_string());
            }
            Ok(image) => {
                assert_eq!(image.rgb.width(), case.width, "{}", case.file);
                if let Some(fault) = case.expected.as_ref().and_then(|expected| {
                    difference(&image.rgb, &goldens::pixels(expected), case.lossy)
                }) {
                    faults.insert(&case.file, fault);
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What is too different in one image, if anything is.
fn difference(found: &Rgb8, expected: &Rgb8, lossy: bool) -> Option<String> {
    let worst = levels(found, expected).max().unwrap_or(0);
    let allowed = if lossy { 4 } else { 0 };
    (worst > allowed).then(|| format!("differs by {worst} levels"))
}

fn levels(found: &Rgb8, expected: &Rgb8) -> impl Iterator<Item = u8> {
    let pairs = found.pixels().iter().zip(expected.pixels());
    pairs.map(|(a, b)| a.abs_diff(*b))
}

#[test]
fn lossy_values_are_within_two_levels_but_for_one_in_a_thousand() {
    let goldens: Goldens = goldens::json("decode.json");
    let (mut values, mut above_two) = (0, 0);
    for case in goldens.images.iter().filter(|case| case.lossy) {
        let Some(expected) = &case.expected else {
            continue;
        };
        let found = read(&goldens::bytes(&case.file)).unwrap().rgb;
        for level in levels(&found, &goldens::pixels(expected)) {
            values += 1;
            above_two += usize::from(level > 2);
        }
    }
    assert!(above_two * 1000 <= values, "{above_two} of {values}");
}

#[test]
fn sixteen_bit_grey_keeps_its_high_byte() {
    let ramp = read(&goldens::bytes("decode/gray-16-ramp.png"))
        .unwrap()
        .rgb;
    let expected = (0..256u32).map(|value| (value * 257 + 77).min(65535) >> 8);
    for (pixel, high) in ramp.pixels().chunks_exact(3).zip(expected) {
        assert_eq!(pixel.to_vec(), vec![high as u8; 3]);
    }
}

#[test]
fn sixteen_bit_grey_of_tiff_keeps_its_high_byte_too() {
    let bytes = goldens::bytes(&format!("{BMP_TIFF}files/gray-16.tiff"));
    let image = read(&bytes).unwrap().rgb;
    // One strip of little-endian samples at the end of the file.
    let pixels = image.pixels().len() / 3;
    let stored = &bytes[bytes.len() - 2 * pixels..];
    for (pixel, sample) in image.pixels().chunks_exact(3).zip(stored.chunks_exact(2)) {
        assert_eq!(pixel, [sample[1]; 3]);
    }
}

#[test]
fn jpeg_inside_of_tiff_is_refused_with_what_to_do() {
    // A directory with one entry is enough: it is looked at before anything else is read.
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    let entries: [(u16, u32); 5] = [(256, 8), (257, 8), (258, 8), (259, 7), (262, 1)];
    tiff.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        tiff.extend(tag.to_le_bytes());
        tiff.extend([3, 0, 1, 0, 0, 0]);
        tiff.extend(value.to_le_bytes());
    }
    for (tag, value) in [(273_u16, 100_u32), (279, 10)] {
        tiff.extend(tag.to_le_bytes());
        tiff.extend([4, 0, 1, 0, 0, 0]);
        tiff.extend(value.to_le_bytes());
    }
    tiff[8] = 7;
    tiff.extend([0; 100]);
    let error = peek(&tiff, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("LZW"), "{error}");
}

#[test]
fn other_formats_are_named() {
    let guesses = [
        (&b""[..], "empty"),
        (b"BM is no bitmap.......", "text"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heicavif", "HEIC"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0mif1avif", "HEIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0avif", "video"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"%PDF-1.7", "PDF"),
        (b"hello there", "text"),
    ];
    for (bytes, word) in guesses {
        let Err(Error::UnsupportedFormat { found }) = peek(bytes, &Limits::default()) else {
            panic!("{word} was taken");
        };
        assert!(found.contains(word), "{found}");
    }
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let mut gif = b"GIF89a\xff\xff\xff\xff\0\0\0,".to_vec();
    gif.extend([0; 9]);
    let error = peek(&gif, &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::ImageTooLarge { width: 65535, .. }));
}

#[test]
fn every_cut_of_every_golden_is_answered_without_a_panic_getting_out() {
    let goldens = all_goldens();
    for case in goldens.images.iter().step_by(3) {
        let bytes = goldens::bytes(&case.file);
        for end in (0..bytes.len()).step_by(bytes.len().div_ceil(40)) {
            let _ = read(&bytes[..end]);
        }
    }
}

#[test]
fn incomplete_files_are_refused_where_pillow_refuses_them() {
    let goldens = all_goldens();
    let wrong: Vec<_> = goldens
        .verdicts
        .iter()
        .filter_map(|verdict| {
            let answer = read(&goldens::bytes(&verdict.file));
            (answer.is_ok() != verdict.accepted).then(|| (&verdict.file, answer.err()))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A JPEG of `width`×`height` pixels with an orientation.
fn header(width: u32, height: u32, orientation: Orientation) -> Header {
    Header {
        format: Format::Jpeg,
        width,
        height,
        cost_bytes: 0,
        orientation,
        reducible: true,
    }
}

#[test]
fn a_reduced_side_keeps_three_times_the_pixels_that_are_wanted() {
    let cases = [
        ((6000, 5376), 4),
        ((6000, 5375), 4),
        ((4000, 3000), 4),
        ((2687, 2688), 2),
        ((1344, 4000), 2),
        ((1343, 4000), 1),
        ((224, 224), 1),
    ];
    for ((width, height), expected) in cases {
        let header = header(width, height, Orientation::NoTransforms);
        assert_eq!(header.reduction_for(224, 224), expected, "{width}×{height}");
    }
}

#[test]
fn a_turned_image_is_reduced_only_in_whole_blocks() {
    let turned = |width| header(width, 3000, Orientation::Rotate90).reduction_for(224, 224);
    assert_eq!(turned(4000), 4);
    assert_eq!(turned(4002), 2);
    assert_eq!(turned(4001), 1);
}

#[test]
fn what_the_reducing_decoder_refuses_is_decoded_in_full() {
    let bytes = goldens::bytes("decode/cmyk.jpg");
    let header = peek(&bytes, &Limits::default()).unwrap();
    assert_eq!(header.reduction_for(1, 1), 1);
    let image = decode_reduced(&bytes, &header, 2).unwrap();
    assert_eq!(image, decode(&bytes, &header).unwrap());
}

/// The tables under "Which images are read" in docs/api.md, row by row: words of the row, a file,
/// and whether it is read. Pixels are compared above and in `jpeg::tests`.
#[test]
fn what_the_documentation_says_is_read_is_and_the_rest_is_not() {
    let pillow = |name: &str| goldens::bytes(&format!("decode/{name}"));
    let jpeg = |name: &str| goldens::bytes(&format!("../jpeg/{name}.jpg"));
    let marked = |marker: u8, depth: u8| {
        let mut bytes = jpeg("420");
        let frame = bytes.windows(2).position(|at| at == [0xff, 0xc0]).unwrap();
        bytes[frame + 1] = marker;
        bytes[frame + 4] = depth;
        bytes
    };
    let many_scans = || {
        let bytes = jpeg("420-three-scans");
        let last = bytes.windows(2).rposition(|at| at == [0xff, 0xda]).unwrap();
        let scan = &bytes[last..bytes.len() - 2];
        [&bytes[..last], &scan.repeat(100), &[0xff, 0xd9]].concat()
    };
    let mut other_canvas = pillow("alpha-announced-only.webp");
    other_canvas[24] += 1;
    let mut without_palette = pillow("plain.gif");
    without_palette.drain(13..13 + 3 * 16);
    without_palette[10] &= 0x7f;

    let rows = [
        ("baseline", pillow("420.jpg"), true),
        ("extended", jpeg("420-extended"), true),
        ("progressive", pillow("420-progressive.jpg"), true),
        ("grey", pillow("gray.jpg"), true),
        ("RGB", pillow("rgb.jpg"), true),
        ("CMYK", pillow("cmyk.jpg"), true),
        ("YCCK", pillow("ycck.jpg"), true),
        (
            "sampling factors that divide the largest",
            jpeg("mixed"),
            true,
        ),
        (
            "any number and order of scans",
            jpeg("420-scans-reversed"),
            true,
        ),
        ("restarts", pillow("restarts.jpg"), true),
        ("Motion JPEG", jpeg("avi1-without-tables"), true),
        ("arithmetic coding", jpeg("arithmetic"), false),
        ("lossless", marked(0xc3, 8), false),
        ("12 bits", marked(0xc1, 12), false),
        ("two components", jpeg("two-components"), false),
        ("do not divide", jpeg("fractional"), false),
        ("only DNL says", jpeg("dnl-in-place-of-the-height"), false),
        ("more than 100 scans", many_scans(), false),
        (
            "last scans are missing",
            jpeg("420-progressive-first-scan"),
            false,
        ),
        ("1 to 16 bits", pillow("gray-1.png"), true),
        ("1 to 16 bits", pillow("rgb-16.png"), true),
        ("palettes", pillow("palette-4-trns.png"), true),
        ("interlaced", pillow("interlaced.png"), true),
        ("default image", pillow("animated.png"), true),
        ("lossy and lossless", pillow("lossy.webp"), true),
        ("lossy and lossless", pillow("lossless.webp"), true),
        (
            "of an animated one the first frame",
            pillow("animated.webp"),
            true,
        ),
        (
            "declared and not there",
            pillow("exif-announced-only.webp"),
            true,
        ),
        ("not as large as its canvas", other_canvas, false),
        (
            "the first frame, on its canvas",
            pillow("animated.gif"),
            true,
        ),
        ("no palette at all", without_palette, false),
        ("16 bits a sample", pillow("gray-16.png"), true),
        ("alpha", pillow("rgba-8.png"), true),
        ("color profiles", pillow("profile.png"), true),
        ("color profiles", pillow("profile.jpg"), true),
        ("orientation", pillow("orientation-6-xmp.webp"), true),
        ("lacks nothing but its end", pillow("no-iend.png"), true),
        ("files that are cut off", pillow("cut.png"), false),
        (
            "files that are cut off",
            pillow("baseline-no-eoi.jpg"),
            false,
        ),
        (
            "grey where it is missing",
            pillow("baseline-cut-closed.jpg"),
            true,
        ),
        (
            "what follows the end",
            pillow("baseline-trailing.jpg"),
            true,
        ),
    ];
    let page = include_str!("../../../../docs/api.md");
    let (_, section) = page.split_once("### Which images are read").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    for (words, bytes, expected) in rows {
        assert!(section.contains(words), "{words}");
        let answer = read(&bytes);
        assert_eq!(answer.is_ok(), expected, "{words}: {:?}", answer.err());
    }
    let Limits {
        max_side,
        max_pixels,
    } = Limits::default();
    assert_eq!((max_side, max_pixels), (16_384, 40_000_000));
    assert!(section.contains("`--max-side` (16,384) and `--max-pixels` (40,000,000)"));
}

#[test]
fn a_side_beyond_the_limit_is_refused_by_the_header() {
    let bytes = goldens::bytes("decode/420.jpg");
    let at_most = |max_side| {
        let limits = Limits {
            max_side,
            ..Limits::default()
        };
        peek(&bytes, &limits)
    };
    assert!(at_most(83).is_ok());
    let refused = at_most(82).unwrap_err().to_string();
    assert!(refused.contains("82 pixels"), "{refused}");
}
