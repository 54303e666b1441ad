use proptest::prelude::*;
use serde::Deserialize;

use super::axis::PILLOW_BITS;
use super::*;
use crate::{
    decode::goldens,
    preprocess::{Backend, Filter},
};

#[derive(Deserialize)]
struct Case {
    input: String,
    filter: Filter,
    width: u32,
    height: u32,
    expected: String,
}

#[test]
fn every_pixel_equals_pillows() {
    for case in goldens::json::<Vec<Case>>("resize.json") {
        let picture = goldens::pixels(&case.input);
        let horizontal = Axis::new(case.filter, picture.width(), case.width, 0..case.width);
        let vertical = Axis::new(case.filter, picture.height(), case.height, 0..case.height);
        let expected = goldens::pixels(&case.expected);
        assert!(
            resize(&picture, &horizontal, &vertical) == expected.pixels(),
            "{}: pixels differ",
            case.expected
        );
    }
}

/// `tests/goldens/processors/make.py` resized uint8 tensors.
#[test]
fn every_pixel_equals_torchvisions() {
    let cases: Vec<Case> = goldens::json("../processors/resize.json");
    assert!(cases.len() > 60, "{}", cases.len());
    for case in cases {
        let picture = goldens::pixels(&case.input);
        let axis = |from: u32, to| {
            let backend = Backend::Torchvision;
            Axis::of_part(case.filter, backend, from, f64::from(from), to, 0..to)
        };
        let horizontal = axis(picture.width(), case.width);
        let vertical = axis(picture.height(), case.height);
        let expected = goldens::pixels(&format!("../processors/{}", case.expected));
        assert!(
            resize(&picture, &horizontal, &vertical) == expected.pixels(),
            "{}: pixels differ",
            case.expected
        );
    }
}

#[test]
fn a_crop_folded_in_gives_the_pixels_of_resizing_and_then_cropping() {
    let picture = goldens::pixels("resize/noise.png");
    for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
        for (width, height) in [(30, 20), (61, 20), (30, 47), (61, 47), (90, 70)] {
            let axes = |columns, rows| {
                (
                    Axis::new(filter, picture.width(), width, columns),
                    Axis::new(filter, picture.height(), height, rows),
                )
            };
            let (horizontal, vertical) = axes(0..width, 0..height);
            let whole = resize(&picture, &horizontal, &vertical);
            let (horizontal, vertical) = axes(5..21, 3..17);
            let part = resize(&picture, &horizontal, &vertical);
            let cropped: Vec<u8> = whole
                .chunks_exact(3 * width as usize)
                .skip(3)
                .take(14)
                .flat_map(|row| &row[15..63])
                .copied()
                .collect();
            assert!(part == cropped, "{filter:?} {width}×{height}");
        }
    }
}

fn filters() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(Filter::Bilinear),
        Just(Filter::Bicubic),
        Just(Filter::Lanczos)
    ]
}

proptest! {
    #[test]
    fn weights_add_up_to_one_and_lie_inside_the_input(
        filter in filters(),
        input in 1u32..3000,
        output in 1u32..600,
    ) {
        let axis = Axis::new(filter, input, output, 0..output);
        prop_assume!(!axis.is_identity());
        for (start, weights) in axis.windows() {
            prop_assert!(!weights.is_empty());
            prop_assert!(start + weights.len() <= input as usize);
            let sum: i32 = weights.iter().sum();
            // Each weight is off by half a unit at most.
            prop_assert!((sum - (1 << PILLOW_BITS)).unsigned_abs() as usize <= weights.len().div_ceil(2));
        }
    }

    #[test]
    fn one_colour_stays_that_colour(
        filter in filters(),
        (width, height) in (1u32..80, 1u32..80),
        (out_width, out_height) in (1u32..80, 1u32..80),
        colour: [u8; 3],
    ) {
        let pixels = colour.repeat((width * height) as usize);
        let picture = Rgb8::new(width, height, pixels).unwrap();
        let horizontal = Axis::new(filter, width, out_width, 0..out_width);
        let vertical = Axis::new(filter, height, out_height, 0..out_height);
        let out = resize(&picture, &horizontal, &vertical);
        prop_assert_eq!(out, colour.repeat((out_width * out_height) as usize));
    }
}

#[test]
fn a_part_of_the_samples_gives_what_pillow_gives_for_a_box() {
    // A ramp through the samples' centres stays a ramp: with 7.5 of 8 samples standing for the
    // picture, output centres lie at (i + ½) · 7.5 / 3.
    let ramp: Vec<u8> = (0..8).flat_map(|at| [20 * at; 3]).collect();
    let picture = Rgb8::new(8, 1, ramp).unwrap();
    let across = Axis::of_part(Filter::Bilinear, Backend::Pillow, 8, 7.5, 3, 1..2);
    let down = Axis::new(Filter::Bilinear, 1, 1, 0..1);
    let expected = (20.0 * (1.5 * 7.5 / 3.0 - 0.5)) as u8;
    assert_eq!(resize(&picture, &across, &down), [expected; 3]);
}
