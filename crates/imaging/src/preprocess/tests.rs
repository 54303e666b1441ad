use serde::Deserialize;

use super::*;
use crate::decode::{self, Limits, Rgb8, goldens};

fn plain(resize: Resize, filter: Filter, crop: Option<Crop>) -> Preprocess {
    Preprocess {
        resize,
        filter,
        backend: Backend::Pillow,
        crop,
        normalize: Normalize {
            scale: 1.0 / 255.0,
            mean: [0.5; 3],
            std: [0.5; 3],
            bgr: false,
        },
    }
}

#[derive(Deserialize)]
struct PipelineCase {
    input: String,
    preprocess: Preprocess,
    resized: (u32, u32),
    expected: String,
}

#[test]
fn resize_and_crop_give_pillows_pixels() {
    for case in goldens::json::<Vec<PipelineCase>>("pipeline.json") {
        let image = goldens::pixels(&case.input);
        let expected = goldens::pixels(&case.expected);
        let pipeline = Pipeline::new(&case.preprocess).unwrap();
        let (horizontal, vertical) = pipeline.sides(image.width(), image.height());
        let axes = [
            pipeline.axis(&horizontal, image.width(), 1),
            pipeline.axis(&vertical, image.height(), 1),
        ];
        let name = &case.expected;
        assert_eq!(
            (horizontal.resized, vertical.resized),
            case.resized,
            "{name}"
        );
        assert_eq!(
            pipeline.input_size(),
            (expected.height(), expected.width()),
            "{name}"
        );
        assert!(
            pipeline::input(&image, &horizontal, &vertical, &axes, [0; 3]) == expected.pixels(),
            "{name}: pixels differ"
        );
    }
}

#[derive(Deserialize)]
struct NormalizeCase {
    mean: [f64; 3],
    std: [f64; 3],
    bits: [Vec<u32>; 3],
    same_as_division: bool,
}

#[test]
fn normalisation_is_bit_exact_with_numpy() {
    let ramp: Vec<u8> = (0..=255).flat_map(|value| [value; 3]).collect();
    let image = Rgb8::new(256, 1, ramp).unwrap();
    for case in goldens::json::<Vec<NormalizeCase>>("normalize.json") {
        let mut preprocess = plain(
            Resize::Squash {
                height: 1,
                width: 256,
            },
            Filter::Bilinear,
            None,
        );
        preprocess.normalize.mean = case.mean;
        preprocess.normalize.std = case.std;
        let tensor = Pipeline::new(&preprocess).unwrap().run(&image).tensor;
        let bits: Vec<u32> = tensor.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, case.bits.concat());
        assert!(case.same_as_division);
    }
}

#[test]
fn the_tensor_holds_planes_of_rows() {
    let image = Rgb8::new(2, 2, vec![0, 10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23]).unwrap();
    let mut preprocess = plain(
        Resize::Squash {
            height: 2,
            width: 2,
        },
        Filter::Bilinear,
        None,
    );
    preprocess.normalize = Normalize {
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
        bgr: false,
    };
    let tensor = Pipeline::new(&preprocess).unwrap().run(&image).tensor;
    assert_eq!(
        tensor,
        [
            0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0
        ]
    );
}

#[test]
fn every_fault_is_listed() {
    let mut preprocess = plain(Resize::ShortestEdge { size: 0 }, Filter::Bilinear, None);
    preprocess.normalize.scale = f64::NAN;
    preprocess.normalize.mean[1] = f64::INFINITY;
    preprocess.normalize.std = [0.0, 1e-60, 0.5];
    let errors = preprocess.validate().unwrap_err();
    let fields: Vec<&str> = errors
        .iter()
        .map(|fault| fault.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(
        fields,
        [
            "resize.size",
            "crop",
            "normalize.scale",
            "normalize.std[0]",
            "normalize.mean[1]",
            "normalize.std[1]"
        ]
    );
    assert!(Pipeline::new(&preprocess).is_err());
}

#[test]
fn sides_of_nothing_and_giant_sides_are_faults() {
    for (height, width) in [(0, 224), (224, 0), (u32::MAX, 224)] {
        let crop = Some(Crop {
            height,
            width,
            rounding: CropRounding::Floor,
            fill: [0; 3],
        });
        let squash = plain(Resize::Squash { height, width }, Filter::Bilinear, crop);
        assert_eq!(squash.validate().unwrap_err().len(), 2);
    }
}

#[derive(Deserialize)]
struct ReducedCase {
    file: String,
    side: u32,
    reduction: u32,
    expected: String,
}

#[test]
fn a_reduced_decode_stays_near_the_full_one_of_pillow() {
    for case in goldens::json::<Vec<ReducedCase>>("reduced.json") {
        let (bytes, name) = (goldens::bytes(&case.file), &case.expected);
        let resize = Resize::Squash {
            height: case.side,
            width: case.side,
        };
        let pipeline = Pipeline::new(&plain(resize, Filter::Bilinear, None)).unwrap();
        let header = decode::peek(&bytes, &Limits::default()).unwrap();
        let (width, height) = pipeline.resized(header.width, header.height);
        let reduction = header.reduction_for(width, height);
        assert_eq!(reduction, case.reduction, "{name}");
        let image = decode::decode_reduced(&bytes, &header, reduction).unwrap();
        assert_eq!(image.reduction, reduction, "{name}");

        let (horizontal, vertical) = pipeline.sides(header.width, header.height);
        let axes = [
            pipeline.axis(&horizontal, image.rgb.width(), reduction),
            pipeline.axis(&vertical, image.rgb.height(), reduction),
        ];
        let input = pipeline::input(&image.rgb, &horizontal, &vertical, &axes, [0; 3]);
        let expected = goldens::pixels(name);
        let levels = || {
            let pairs = input.iter().zip(expected.pixels());
            pairs.map(|(&a, &b)| u32::from(a.abs_diff(b)))
        };
        let mean = f64::from(levels().sum::<u32>()) / input.len() as f64;
        let far = levels().filter(|&level| level > 4).count();
        assert!(mean <= 1.5, "{name}: {mean} levels in the mean");
        assert!(
            far * 100 <= input.len(),
            "{name}: {far} values differ by more than 4"
        );
    }
}
