//! Exported networks that are no Vision Transformers: labels, and evidence cut out of the graph.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use patchlight_engine::BareSession;
use patchlight_model::manifest::Manifest;
use patchlight_onnx::proto::ModelProto;
use prost::Message;
use tempfile::TempDir;

use super::{
    super::{ImportError, ImportOptions, Source, run},
    families::{Golden, assert_account_closes, assert_close, runtime},
};

const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/goldens/networks");

fn import(name: &str, without_map: bool) -> Result<(TempDir, Manifest), ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let graph = Path::new(GOLDENS).join(name).join("model.onnx");
    let options = ImportOptions {
        without_map,
        runtime: Some(runtime()),
        ..ImportOptions::new(Source::Checkpoint(graph), folder.path().join("model"))
    };
    let manifest = run(&options, &mut |_| {})?.manifest;
    Ok((folder, manifest))
}

/// Logits, evidence cell by cell, and its sums, alone and in a batch.
fn agrees(name: &str) {
    let text = fs::read_to_string(Path::new(GOLDENS).join(name).join("expected.json")).unwrap();
    let expected: Golden = serde_json::from_str(&text).unwrap();
    let images = expected.pixel_values.len();
    let (folder, manifest) = import(name, false).unwrap();
    assert_eq!(manifest.graph.rollout, None);
    assert!(manifest.graph.without_map.is_some());
    assert_eq!(manifest.tokens.grid[0] * manifest.architecture.patch, 64);
    manifest.validate().unwrap();
    let graph = folder.path().join("model/model.onnx");
    let mut session = BareSession::open(&runtime(), &graph).unwrap();
    let shape = [images, 3, 64, 64];
    let pixels = expected.pixel_values.concat();
    let answers = session.run(&[("pixel_values", &shape, &pixels)]).unwrap();
    assert_account_closes(&answers, images, 1e-3, name);
    assert_close(
        &answers["logits"].values,
        &expected.logits.concat(),
        1e-3,
        name,
    );
    let evidence = |part: fn(&super::families::GoldenEvidence) -> Vec<f32>| {
        expected
            .evidence
            .iter()
            .flat_map(part)
            .collect::<Vec<f32>>()
    };
    let patches = evidence(|image| image.patches.concat());
    let classes = evidence(|image| image.classes.iter().map(|&class| class as f32).collect());
    assert_close(&answers["evidence"].values, &patches, 1e-3, name);
    assert_close(
        &answers["evidence_rest"].values,
        &evidence(|image| image.rest.clone()),
        1e-3,
        name,
    );
    assert_eq!(answers["evidence_class"].values, classes, "{name}");
}

/// What `tests/goldens/exported/random_exports.py` wrote beside a graph.
#[derive(serde::Deserialize)]
struct Export {
    pixel_values: Vec<Vec<f32>>,
    logits: Vec<Vec<f32>>,
    /// "rollout" or "evidence".
    maps: String,
    made: serde_json::Value,
}

/// Random exports of many networks give the library's logits, and the maps that their kind has, or are
/// refused. Refusals, and graphs without the expected map, are printed.
#[test]
fn exports_from_elsewhere() {
    let Some(folder) = env::var_os("EXPORTS") else {
        return;
    };
    let found = fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    let (mut agreed, mut refused, mut wrong) = (0, 0, Vec::new());
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path.join("expected.json")).unwrap();
        let expected: Export = serde_json::from_str(&text).unwrap();
        let out = tempfile::tempdir().unwrap();
        let options = ImportOptions {
            runtime: Some(runtime()),
            ..ImportOptions::new(
                Source::Checkpoint(path.join("model.onnx")),
                out.path().join("model"),
            )
        };
        let manifest = match run(&options, &mut |_| {}) {
            Ok(summary) => summary.manifest,
            Err(error) => {
                eprintln!("REFUSED {name} {}: {error}", expected.made);
                refused += 1;
                continue;
            }
        };
        let outcome = std::panic::catch_unwind(|| {
            let images = expected.pixel_values.len();
            let graph = out.path().join("model/model.onnx");
            let mut session = BareSession::open(&runtime(), &graph).unwrap();
            let (height, width) = manifest.input_size().unwrap();
            let pixels = expected.pixel_values.concat();
            let shape = [images, 3, height, width];
            let answers = session.run(&[("pixel_values", &shape, &pixels)]).unwrap();
            let logits = expected.logits.concat();
            let size = logits
                .iter()
                .fold(1.0_f32, |size, logit| size.max(logit.abs()));
            let of_size =
                |values: &[f32]| values.iter().map(|value| value / size).collect::<Vec<_>>();
            let found = of_size(&answers["logits"].values);
            assert_close(&found, &of_size(&logits), 2e-3, &name);
            if manifest.graph.attribution.is_some() {
                assert_account_closes(&answers, images, 1e-3, &name);
            }
        });
        let mapped = match expected.maps.as_str() {
            "rollout" => manifest.graph.rollout.is_some(),
            _ => manifest.graph.attribution.is_some(),
        };
        match outcome {
            Ok(()) if mapped => {
                agreed += 1;
                let text = fs::read(out.path().join("model/model.onnx")).unwrap();
                let model = ModelProto::decode(text.as_slice()).unwrap();
                let scanned = model.graph.unwrap().node[0].op_type() == "Scan";
                if scanned {
                    eprintln!("ONE BY ONE {name} {}", expected.made);
                }
            }
            Ok(()) => {
                let reason = &manifest.graph.without_map;
                eprintln!("NO MAP {name} {}: {reason:?}", expected.made);
            }
            Err(_) => wrong.push(format!("{name} {}", expected.made)),
        }
    }
    eprintln!("{agreed} agree, {refused} refused, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn resnet_ends_in_a_mean_and_a_linear_layer() {
    agrees("resnet");
}

#[test]
fn convnext_normalises_the_mean_in_operators_of_opset_13() {
    agrees("convnext");
}

#[test]
fn efficientnet_ends_in_a_mean() {
    agrees("efficientnet");
}

#[test]
fn swin_of_timm_has_cells_in_rows_and_columns() {
    agrees("swin");
}

#[test]
fn convnext_of_transformers_from_torchs_newer_exporter() {
    agrees("transformers_convnext");
}

#[test]
fn swin_of_transformers_has_cells_in_one_axis_and_one_image_fixed() {
    agrees("transformers_swin_one_image");
}

#[test]
fn a_nonlinear_layer_after_the_mean_is_refused_and_labels_alone_are_not() {
    let error = import("nonlinear_head", false).unwrap_err().to_string();
    assert!(error.contains("neither a linear classifier"), "{error}");
    let (_folder, manifest) = import("nonlinear_head", true).unwrap();
    assert_eq!(manifest.graph.attribution, None);
}
