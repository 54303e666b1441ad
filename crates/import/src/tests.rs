mod families;
mod labels;
mod names;
mod networks;
mod processors;

use std::{
    fs,
    path::{Path, PathBuf},
};

use patchlight_imaging::preprocess::Preprocess;
use patchlight_model::manifest::{Manifest, TaskKind};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::tensor_file::digest;

/// A copy of a golden checkpoint, to be spoiled, and a place for the model.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .join("tests/goldens/transformers/no_qkv_bias_tanh");
        fs::create_dir(folder.path().join("checkpoint")).unwrap();
        for name in [
            "config.json",
            "preprocessor_config.json",
            "model.safetensors",
        ] {
            fs::copy(
                golden.join(name),
                folder.path().join("checkpoint").join(name),
            )
            .unwrap();
        }
        Self { folder }
    }

    fn checkpoint(&self, name: &str) -> PathBuf {
        self.folder.path().join("checkpoint").join(name)
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    /// Sets fields of a JSON file; null removes one.
    fn edit(&self, name: &str, fields: Value) {
        let path = self.checkpoint(name);
        let mut object: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            match value {
                Value::Null => object.as_object_mut().unwrap().remove(key),
                _ => object
                    .as_object_mut()
                    .unwrap()
                    .insert(key.clone(), value.clone()),
            };
        }
        fs::write(path, object.to_string()).unwrap();
    }

    /// Writes the tensors again, changed.
    fn edit_tensors(&self, change: impl FnOnce(&mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>)) {
        let path = self.checkpoint("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let mut tensors = safetensors::SafeTensors::deserialize(&bytes)
            .unwrap()
            .iter()
            .map(|(name, t)| {
                (
                    name.to_owned(),
                    t.dtype(),
                    t.shape().to_vec(),
                    t.data().to_vec(),
                )
            })
            .collect();
        change(&mut tensors);
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (
                name.clone(),
                TensorView::new(*dtype, shape.clone(), data).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &path).unwrap();
    }

    fn import(&self) -> Result<Summary, ImportError> {
        run(
            &ImportOptions::new(
                Source::Checkpoint(self.folder.path().join("checkpoint")),
                self.out(),
            ),
            &mut |_| {},
        )
    }

    fn preprocess(&self) -> Preprocess {
        self.import().unwrap().manifest.preprocess
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let message = self.import().unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
        assert!(!self.out().join("model.toml").exists());
    }
}

#[test]
fn manifest_names_every_file_with_its_digest() {
    let case = Case::new();
    let summary = case.import().unwrap();
    let text = fs::read_to_string(case.out().join("model.toml")).unwrap();
    let manifest: Manifest = toml::from_str(&text).unwrap();
    assert_eq!(manifest, summary.manifest);
    assert_eq!(
        manifest.files.keys().collect::<Vec<_>>(),
        ["labels.txt", "model.onnx"]
    );
    for (name, expected) in &manifest.files {
        assert_eq!(&digest(&case.out().join(name)).unwrap(), expected);
    }
    assert_eq!(
        fs::read_to_string(case.out().join("labels.txt"))
            .unwrap()
            .lines()
            .count(),
        7
    );
    assert_eq!(fs::read_dir(case.out()).unwrap().count(), 3);
}

#[test]
fn counts_the_parameters_that_the_checkpoint_has() {
    let case = Case::new();
    let mut values = 0;
    case.edit_tensors(|tensors| {
        values = tensors
            .iter()
            .map(|(_, _, shape, _)| shape.iter().product::<usize>() as u64)
            .sum();
    });
    assert_eq!(
        case.import().unwrap().manifest.architecture.parameters,
        values
    );
}

#[test]
fn replaces_a_model_and_leaves_other_files_alone() {
    let case = Case::new();
    fs::create_dir(case.out()).unwrap();
    fs::write(case.out().join("README.md"), "ours").unwrap();
    case.import().unwrap();
    // As a larger model would have left it.
    fs::write(case.out().join("model.onnx.data"), "old").unwrap();
    case.edit(
        "config.json",
        json!({"problem_type": "multi_label_classification"}),
    );
    assert_eq!(
        case.import().unwrap().manifest.task.kind,
        TaskKind::MultiLabel
    );
    assert_eq!(
        fs::read_to_string(case.out().join("README.md")).unwrap(),
        "ours"
    );
    assert!(!case.out().join("model.onnx.data").exists());
}

#[test]
fn refuses_a_directory_with_somebody_elses_graph() {
    let case = Case::new();
    fs::create_dir(case.out()).unwrap();
    fs::write(case.out().join("model.onnx"), "theirs").unwrap();
    case.refused(&["holds model.onnx but no model.toml"]);
    assert_eq!(
        fs::read_to_string(case.out().join("model.onnx")).unwrap(),
        "theirs"
    );
}

#[test]
fn a_failure_halfway_leaves_nothing_behind() {
    let case = Case::new();
    case.edit_tensors(|tensors| {
        let (_, dtype, ..) = tensors
            .iter_mut()
            .find(|(name, ..)| name == "classifier.bias")
            .unwrap();
        *dtype = Dtype::I32;
    });
    case.refused(&[
        "model.safetensors",
        "`classifier.bias`",
        "I32",
        "F32, F16 and BF16",
    ]);
    assert!(!case.out().exists());
}

#[test]
fn names_a_tensor_that_is_missing_unexpected_or_of_another_shape() {
    let case = Case::new();
    case.edit_tensors(|tensors| tensors.retain(|(name, ..)| name != "vit.layernorm.bias"));
    case.refused(&["`vit.layernorm.bias`", "is missing"]);

    let case = Case::new();
    case.edit("config.json", json!({"num_hidden_layers": 1}));
    case.refused(&["`vit.encoder.layer.1.", "is unexpected"]);

    let case = Case::new();
    case.edit("config.json", json!({"intermediate_size": 65}));
    case.refused(&[
        "`vit.encoder.layer.0.intermediate.dense.weight`",
        "[64, 32]",
        "[65, 32]",
    ]);
}

#[test]
fn ignores_the_pooler_that_a_classifier_does_not_use() {
    let case = Case::new();
    case.edit_tensors(|tensors| {
        tensors.push((
            "vit.pooler.dense.bias".to_owned(),
            Dtype::F32,
            vec![1],
            vec![0; 4],
        ));
    });
    case.import().unwrap();
}

#[test]
fn refuses_a_truncated_file() {
    let case = Case::new();
    let path = case.checkpoint("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    case.refused(&["model.safetensors", "copy it again"]);
    fs::write(&path, b"PK\x03\x04 a zip archive, say").unwrap();
    case.refused(&["not a safetensors file"]);
}

#[test]
fn missing_files_come_with_advice() {
    let case = Case::new();
    fs::remove_file(case.checkpoint("preprocessor_config.json")).unwrap();
    case.refused(&["preprocessor_config.json is missing", "cannot be guessed"]);
}

#[test]
fn refuses_what_the_graph_cannot_express() {
    for (fields, parts) in [
        (json!({"model_type": "swin"}), ["`model_type`", "\"swin\""]),
        (
            json!({"hidden_act": "gelu_10"}),
            ["`hidden_act`", "\"gelu_10\""],
        ),
        (json!({"num_channels": 1}), ["`num_channels`", "3 channels"]),
        (json!({"image_size": 30}), ["`image_size`", "multiples"]),
        (json!({"patch_size": [8, 4]}), ["`patch_size`", "square"]),
        (
            json!({"num_attention_heads": 5}),
            ["`num_attention_heads`", "divide"],
        ),
        (
            json!({"problem_type": "regression"}),
            ["`problem_type`", "regression"],
        ),
        (
            json!({"id2label": {"0": "cat", "2": "dog"}}),
            ["`id2label`", "class 1"],
        ),
    ] {
        let case = Case::new();
        case.edit("config.json", fields);
        case.refused(&parts);
    }
}
