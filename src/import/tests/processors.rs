//! Preprocessing as `preprocessor_config.json` describes it.

use std::fs;

use serde_json::{Value, json};

use super::Case;
use crate::preprocess::{Crop, CropRounding, Filter, Resize};

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
        (json!({"resample": 0}), ["`resample`", "is 0"]),
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
            json!({"image_processor_type": "ConvNextImageProcessor"}),
            ["`size`", "shortest_edge"],
        ),
        (
            json!({"image_processor_type": "DeiTImageProcessor"}),
        (
            json!({"image_processor_type": "MobileViTImageProcessor"}),
            ["MobileViT", "not known"],
        ),
            ["`do_center_crop`", "is missing"],
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
