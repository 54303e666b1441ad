//! Every structure against libjpeg-turbo, through Pillow (`tests/goldens/jpeg/make.py`).

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::common::guarded;
use crate::decode::{Image, Limits, Rgb8, decode, decode_reduced, peek};

#[derive(Deserialize)]
struct Case {
    name: String,
    file: PathBuf,
    /// Pixels as PNG; absent where Pillow refuses.
    expected: Option<PathBuf>,
    /// Why patchlight may refuse what Pillow takes.
    may_refuse: Option<String>,
}

fn cases(folder: &Path) -> Vec<(Case, Vec<u8>, Option<Rgb8>)> {
    let read = |name: &Path| fs::read(folder.join(name)).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&read(Path::new("cases.json"))).unwrap();
    let with_pixels = cases.into_iter().map(|case| {
        let bytes = read(&case.file);
        let expected = case.expected.as_ref().map(|name| {
            let pixels = image::load_from_memory(&read(name)).unwrap();
            pixels.into_rgb8().into()
        });
        (case, bytes, expected)
    });
    with_pixels.collect()
}

fn goldens() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/goldens/jpeg")
}

/// Values of images beside those of libjpeg-turbo.
#[derive(Default)]
struct Compared {
    values: usize,
    /// By more than two levels.
    off: usize,
    worst: u8,
}

/// What is wrong with an answer, if anything is.
fn fault(case: &Case, bytes: &[u8], expected: Option<&Rgb8>, all: &mut Compared) -> Option<String> {
    let header = match peek(bytes, &Limits::default()) {
        Ok(header) => header,
        Err(error) => return refused(case, &error),
    };
    let image = match decode(bytes, &header) {
        Ok(image) => image,
        Err(error) => return refused(case, &error),
    };
    let Some(expected) = expected else {
        return Some("is taken, and Pillow refuses it".to_owned());
    };
    if let Some(fault) = difference(&image.rgb, expected, all) {
        return Some(format!("{fault} (usual: {})", guarded(bytes).is_some()));
    }
    if header.width.min(header.height) < 24 {
        return None;
    }
    // At half the size it is another image, but the same one.
    let reduced = decode_reduced(bytes, &header, 2).unwrap();
    let far = match reduced.reduction {
        1 => (reduced.rgb != image.rgb).then_some(255.0),
        _ => Some(mean_difference(&reduced, expected)).filter(|&mean| mean > 6.0),
    };
    far.map(|mean| format!("is {mean} levels off on average when it is reduced"))
}

fn refused(case: &Case, error: &crate::Error) -> Option<String> {
    let allowed = case.expected.is_none() || case.may_refuse.is_some();
    (!allowed).then(|| format!("is refused: {error}"))
}

/// Rounding alone, in one image: never more than sixteen levels (the fast decoder's at the ends of
/// the scale), nor more than two in one value of a hundred.
fn difference(found: &Rgb8, expected: &Rgb8, all: &mut Compared) -> Option<String> {
    let size = |rgb: &Rgb8| (rgb.width(), rgb.height());
    if size(found) != size(expected) {
        return Some(format!("is {:?}, not {:?}", size(found), size(expected)));
    }
    let pairs = found.pixels().iter().zip(expected.pixels());
    let levels: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let off = levels.iter().filter(|&&level| level > 2).count();
    let worst = levels.iter().max().copied().unwrap_or(0);
    all.values += levels.len();
    all.off += off;
    all.worst = all.worst.max(worst);
    let fits = worst <= 16 && off <= levels.len() / 100;
    (!fits).then(|| format!("has {off} of {} values off, by up to {worst}", levels.len()))
}

/// Between an image of half the size and the mean of each four pixels of a whole one.
fn mean_difference(reduced: &Image, whole: &Rgb8) -> f64 {
    let (width, height) = (whole.width() as usize / 2, whole.height() as usize / 2);
    let stride = reduced.rgb.width() as usize;
    let mut sum = 0.0;
    for index in 0..width * height * 3 {
        let (x, y, part) = (index / 3 % width, index / 3 / width, index % 3);
        let at = |dx: usize, dy: usize| {
            let pixel = (2 * y + dy) * whole.width() as usize + 2 * x + dx;
            f64::from(whole.pixels()[3 * pixel + part])
        };
        let mean = (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4.0;
        let found = f64::from(reduced.rgb.pixels()[3 * (y * stride + x) + part]);
        sum += (mean - found).abs();
    }
    sum / (width * height * 3).max(1) as f64
}

/// The promise: two levels for 999 of 1000 values of all images.
fn check(folder: &Path) {
    let cases = cases(folder);
    let mut all = Compared::default();
    let faults: Vec<String> = cases
        .iter()
        .filter_map(|(case, bytes, expected)| {
            let fault = fault(case, bytes, expected.as_ref(), &mut all)?;
            Some(format!("{} {fault}", case.name))
        })
        .collect();
    assert!(
        faults.is_empty(),
        "{} of {} cases:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
    let Compared { values, off, worst } = all;
    println!(
        "{} cases: {off} of {values} values off by more than 2, at most {worst}",
        cases.len()
    );
    assert!(off * 1000 <= values, "{off} of {values}");
}

#[test]
fn every_structure_is_drawn_as_libjpeg_turbo_draws_it_or_refused() {
    check(&goldens());
}

/// `.ci/full` names a folder of random structures.
#[test]
fn structures_from_elsewhere_are_drawn_as_libjpeg_turbo_draws_them_or_refused() {
    if let Some(folder) = env::var_os("JPEG_STRUCTURES") {
        check(Path::new(&folder));
    }
}

/// What the promise of two levels cannot tell from another filter: the slow decoder has none of its
/// own.
#[test]
fn the_slow_decoder_gives_the_very_pixels_of_libjpeg_turbo() {
    let mut compared = 0;
    for (case, bytes, expected) in cases(&goldens()) {
        let (Some(expected), Ok(found)) = (expected, super::exact::decode(&bytes)) else {
            continue;
        };
        assert_eq!(found, expected, "{}", case.name);
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn what_is_kept_of_a_file_can_be_drawn_and_is_the_same() {
    let mut kept = 0;
    for (case, bytes, _) in cases(&goldens()) {
        let Ok(header) = peek(&bytes, &Limits::default()) else {
            continue;
        };
        let Ok(image) = decode(&bytes, &header) else {
            continue;
        };
        if let Some(copy) = image.stripped_copy(&header, &bytes, 1024) {
            // As the server reads a copy when it draws a map.
            let drawn = image::load_from_memory_with_format(&copy, image::ImageFormat::Jpeg);
            let drawn = drawn.unwrap().into_rgb8();
            assert_eq!(drawn.as_raw(), image.rgb.pixels(), "{}", case.name);
            kept += 1;
        }
    }
    assert!(kept > 10, "{kept}");
}

/// Noise as JPEG: detail in every pixel.
fn noise(width: u32, height: u32) -> Vec<u8> {
    let mut random = 1_u32;
    let mut value = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        128 + (random >> 26) as u8
    };
    let pixels: Vec<u8> = (0..3 * width * height).map(|_| value()).collect();
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode(&pixels, width, height, image::ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

fn stripped_copy(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = peek(bytes, &Limits::default()).unwrap();
    let image = decode(bytes, &header).unwrap();
    image.stripped_copy(&header, bytes, 1024)
}

#[test]
fn detail_of_five_bits_a_pixel_is_kept_as_it_was_sent_and_a_padded_scan_is_not() {
    let bytes = noise(300, 200);
    let bits = 8.0 * bytes.len() as f64 / (300.0 * 200.0);
    assert!(bits > 5.0 && bits < 8.0, "{bits}");
    assert!(stripped_copy(&bytes).unwrap().len() <= bytes.len());

    // More data than the pixels could take.
    let end = bytes.len() - 2;
    let padded = [&bytes[..end], &[0x55; 300 * 200][..], &bytes[end..]].concat();
    assert_eq!(stripped_copy(&padded), None);
}

#[test]
fn an_upload_larger_than_previews_are_is_not_kept_as_it_was_sent() {
    let bytes = noise(700, 700);
    assert!(bytes.len() > Image::MAX_COPY_BYTES);
    assert_eq!(stripped_copy(&bytes), None);
}
