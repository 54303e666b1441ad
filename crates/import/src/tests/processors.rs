//! Preprocessing as `preprocessor_config.json` describes it.

use std::fs;

use patchlight_imaging::{
    decode::Rgb8,
    preprocess::{Backend, Crop, CropRounding, Filter, Pipeline, Resize},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        ImportOptions, Source,
        preprocessing::{
            pretrained_cfg,
            processor::{self, Choice},
        },
        run,
    },
    Case,
};

/// Pixels that `tests/goldens/pillow/make.py` wrote, stored as RGB PNG.
fn pixels(path: &str) -> Rgb8 {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/goldens/pillow");
    image::open(std::path::Path::new(root).join(path))
        .unwrap()
        .into_rgb8()
        .into()
}

#[test]
fn feature_extractors_of_the_first_generation_are_read() {
    let case = Case::new();
    let file = json!({
        "do_normalize": true, "do_resize": true, "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "resample": 3, "size": 32
    });
    fs::write(
        case.checkpoint("preprocessor_config.json"),
        file.to_string(),
    )
    .unwrap();
    let found = case.preprocess();
    assert_eq!(
        found.resize,
        Resize::Squash {
            height: 32,
            width: 32
        }
    );
    assert_eq!((found.filter, found.crop), (Filter::Bicubic, None));
    assert_eq!(found.normalize.scale, 1.0 / 255.0);
    assert_eq!(found.normalize.std, [0.229, 0.224, 0.225]);
}

#[test]
fn shortest_edge_and_crop_are_read() {
    let case = Case::new();
    case.edit("config.json", json!({"transformers_version": "4.57.6"}));
    let fields = json!({
        "size": {"shortest_edge": 36}, "do_center_crop": true,
        "crop_size": {"height": 32, "width": 32}, "do_normalize": false, "do_rescale": false
    });
    case.edit("preprocessor_config.json", fields);
    let found = case.preprocess();
    assert_eq!(found.resize, Resize::ShortestEdge { size: 36 });
    let crop = Crop {
        height: 32,
        width: 32,
        rounding: CropRounding::Floor,
        fill: [0; 3],
    };
    assert_eq!(found.crop, Some(crop));
    assert_eq!(
        (found.normalize.scale, found.normalize.mean),
        (1.0, [0.0; 3])
    );
}

#[test]
fn refuses_preprocessing_that_is_unknown_or_does_not_fit() {
    for (fields, parts) in [
        (json!({"resample": 6}), ["`resample`", "is 6"]),
        (json!({"do_resize": false}), ["`do_resize`", "is false"]),
        (
            json!({"size": {"height": 16, "width": 32}}),
            ["`size`", "16×32"],
        ),
        (
            json!({"size": {"shortest_edge": 32}}),
            ["`size`", "do_center_crop"],
        ),
        (json!({"image_std": [0, 1, 1]}), ["`image_std`", "positive"]),
        (
            json!({"size": {"longest_edge": 32}}),
            ["`size`", "longest_edge"],
        ),
        (
            json!({"image_processor_type": "SamImageProcessor"}),
            ["SamImageProcessor", "not known"],
        ),
        (
            json!({"image_processor_type": "ConvNextImageProcessor"}),
            ["`size`", "shortest_edge"],
        ),
        (
            json!({"image_processor_type": "DeiTImageProcessor"}),
            ["`crop_size`", "224×224"],
        ),
        (
            json!({"image_processor_type": "Siglip2ImageProcessor"}),
            ["another aspect", "--preprocess"],
        ),
        (
            json!({"size": {"shortest_edge": 32, "longest_edge": 40}}),
            ["`size`", "longest_edge"],
        ),
    ] {
        let case = Case::new();
        case.edit("preprocessor_config.json", fields);
        case.refused(&parts);
    }
}

/// Of transformers 4.25 to 4.40 many files have the old name of the class and the new one.
#[test]
fn files_with_both_names_of_their_class_are_read() {
    let case = Case::new();
    let class = json!({"feature_extractor_type": "CLIPFeatureExtractor"});
    case.edit("preprocessor_config.json", class);
    let new = json!({"image_processor_type": "ViTImageProcessor", "size": [32, 32]});
    case.edit("preprocessor_config.json", new);
    let side = 32;
    let squash = Resize::Squash {
        height: side,
        width: side,
    };
    assert_eq!(case.preprocess().resize, squash);
}

/// transformers 5 looks there first.
#[test]
fn a_processor_inside_another_file_comes_first() {
    let case = Case::new();
    let alone = case.checkpoint("preprocessor_config.json");
    let mut inner: Value = serde_json::from_slice(&fs::read(&alone).unwrap()).unwrap();
    inner["resample"] = json!(3);
    let joined = case.checkpoint("processor_config.json");
    fs::write(&joined, json!({"image_processor": inner}).to_string()).unwrap();
    assert_eq!(case.preprocess().filter, Filter::Bicubic);
    fs::remove_file(alone).unwrap();
    assert_eq!(case.preprocess().filter, Filter::Bicubic);
    fs::write(joined, "{}").unwrap();
    let message = case.import().unwrap_err().to_string();
    assert!(
        message.contains("preprocessor_config.json is missing"),
        "{message}"
    );
}

#[derive(Deserialize)]
struct Golden {
    transformers: String,
    cases: Vec<GoldenCase>,
}

/// What a version of transformers made of an image with a processor as the file describes it.
#[derive(Deserialize)]
struct GoldenCase {
    name: String,
    config: Value,
    backend: Backend,
    input: String,
    shape: [u32; 3],
    bits: Vec<u32>,
}

/// By the library that each processor really runs with, to the last bit.
#[test]
fn every_processor_makes_what_its_own_version_of_transformers_makes() {
    for text in [
        include_str!("../../../../tests/goldens/processors/transformers-4.json"),
        include_str!("../../../../tests/goldens/processors/transformers-5.json"),
    ] {
        let golden: Golden = serde_json::from_str(text).unwrap();
        assert!(golden.cases.len() > 70);
        for case in golden.cases {
            let folder = tempfile::tempdir().unwrap();
            let [file, config] =
                ["preprocessor_config.json", "config.json"].map(|name| folder.path().join(name));
            fs::write(&file, case.config.to_string()).unwrap();
            let version = json!({"transformers_version": golden.transformers});
            fs::write(&config, version.to_string()).unwrap();

            let name = format!("{} {}", golden.transformers, case.name);
            let choice = Choice::new(None, Some(&config)).unwrap();
            let found = processor::any_size(&file, choice).unwrap();
            assert_eq!(found.backend, case.backend, "{name}");
            let prepared = Pipeline::new(&found).unwrap().run(&pixels(&case.input));
            let [_, height, width] = case.shape;
            assert_eq!(found.input_size(), Some((height, width)), "{name}");
            let bits: Vec<u32> = prepared
                .tensor
                .iter()
                .map(|value| value.to_bits())
                .collect();
            assert_eq!(bits, case.bits, "{name}, {}", case.config);
        }
    }
}

#[test]
fn the_version_that_wrote_the_checkpoint_decides_and_the_command_line_first() {
    let resized_by = |version: Value, class: &str, given: Option<Backend>| {
        let case = Case::new();
        case.edit("config.json", json!({"transformers_version": version}));
        let fields = json!({"image_processor_type": class});
        case.edit("preprocessor_config.json", fields);
        let options = ImportOptions {
            resize: given,
            ..ImportOptions::new(
                Source::Checkpoint(case.folder.path().join("checkpoint")),
                case.out(),
            )
        };
        run(&options, &mut |_| {}).unwrap()
    };
    for (version, class, given, expected) in [
        (json!("4.57.6"), "ViTImageProcessor", None, Backend::Pillow),
        (json!(null), "ViTImageProcessor", None, Backend::Pillow),
        (
            json!("4.6.0.dev0"),
            "ViTFeatureExtractor",
            None,
            Backend::Pillow,
        ),
        (
            json!("4.57.6"),
            "ViTImageProcessorFast",
            None,
            Backend::Torchvision,
        ),
        (
            json!("5.0.0"),
            "ViTImageProcessor",
            None,
            Backend::Torchvision,
        ),
        (
            json!("5.23.0"),
            "ViTImageProcessor",
            Some(Backend::Pillow),
            Backend::Pillow,
        ),
        (
            json!("4.57.6"),
            "ViTImageProcessor",
            Some(Backend::Torchvision),
            Backend::Torchvision,
        ),
    ] {
        let summary = resized_by(version.clone(), class, given);
        let found = summary.manifest.preprocess.backend;
        assert_eq!(found, expected, "{version} {class} {given:?}");
        let said = summary.to_string().contains("as torchvision does");
        assert_eq!(said, expected == Backend::Torchvision, "{summary}");
    }
}

/// What `tests/goldens/processors/random_processors.py` and `tests/goldens/timm/random_transforms.py`
/// wrote beside the description.
#[derive(Deserialize)]
struct Made {
    backend: Backend,
    shape: [u32; 3],
    loaded: String,
}

/// Processors of random steps and numbers make what the library makes, or are refused. Refusals are
/// printed.
#[test]
fn processors_from_elsewhere() {
    let Some(folder) = std::env::var_os("PROCESSORS") else {
        return;
    };
    let found = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    let (mut agreed, mut refused, mut wrong) = (0, 0, Vec::new());
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let made = fs::read(path.join("made.json")).unwrap();
        let made: Made = serde_json::from_slice(&made).unwrap();
        let choice = Choice::new(Some(made.backend), Some(&path.join("config.json"))).unwrap();
        let file = path.join("preprocessor_config.json");
        let read = match made.loaded.starts_with("timm") {
            true => pretrained_cfg::of_file(&path.join("config.json")),
            false => processor::any_size(&file, choice),
        };
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                eprintln!("REFUSED {name}: {error}");
                refused += 1;
                continue;
            }
        };
        let pipeline = match Pipeline::new(&found) {
            Ok(pipeline) => pipeline,
            Err(errors) => {
                eprintln!("REFUSED {name}: {}", errors.join("; "));
                refused += 1;
                continue;
            }
        };
        let image = image::open(path.join("image.png")).unwrap().into_rgb8();
        let prepared = pipeline.run(&image.into());
        let expected = fs::read(path.join("expected.f32")).unwrap();
        let expected = expected.as_chunks::<4>().0.iter();
        let expected: Vec<f32> = expected.map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let [_, height, width] = made.shape;
        let differences = prepared.tensor.iter().zip(&expected);
        let off = differences.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let size = found.input_size();
        // Two divisions of EfficientNet's are one here, and rounded once.
        let tolerance = match name.starts_with("EfficientNet") {
            true => 1e-6,
            false => 0.0,
        };
        let largest = expected.iter().fold(1.0_f32, |a, b| a.max(b.abs()));
        if size == Some((height, width)) && off <= tolerance * largest {
            agreed += 1;
        } else {
            let what = format!("{name} ({}): {size:?}, off by {off}", made.loaded);
            eprintln!("WRONG {what}");
            wrong.push(what);
        }
    }
    eprintln!("{agreed} agree, {refused} refused, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
