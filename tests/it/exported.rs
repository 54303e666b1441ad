//! Graphs that were exported elsewhere answer what they answered before, with a map that is the
//! library's.

mod refusals;

use std::{
    fs,
    path::{Path, PathBuf},
};

use patchlight_imaging::preprocess::{Crop, CropRounding, Resize};
use patchlight_import::{self as import, ImportOptions, PreprocessSource, Source};
use patchlight_model::manifest::HeadFusion;

use serde_json::Value;

use crate::{
    client::{get, post},
    graph::imported_with,
    process::{Server, program},
    service::sample,
    support::{GraphRunner, runtime},
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/exported")
        .join(name)
}

fn options(graph: &Path) -> ImportOptions {
    ImportOptions {
        runtime: Some(runtime().clone()),
        ..ImportOptions::new(Source::Checkpoint(graph.to_owned()), PathBuf::new())
    }
}

fn refusal(options: &ImportOptions) -> String {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = ImportOptions {
        out: folder.path().join("model"),
        ..options.clone()
    };
    let message = import::run(&options, &mut |_| {}).unwrap_err().to_string();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{message}");
    message
}

fn agrees(name: &str, tolerance: f32) {
    agrees_with(&options(&golden(name).join("model.onnx")), name, tolerance);
}

/// Logits and the rollout from every block, in one batch and alone, for every fusion. Logits may be
/// ten times as far off, being larger.
fn agrees_with(options: &ImportOptions, name: &str, tolerance: f32) {
    let text = fs::read_to_string(golden(name).join("expected.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    for (fusion, by_name) in FUSIONS.into_iter().zip(["mean", "max", "min"]) {
        let (folder, manifest) = imported_with(ImportOptions {
            head_fusion: fusion,
            ..options.clone()
        });
        assert_eq!(manifest.provenance.source, "onnx");
        let mut runner = GraphRunner::from_file(&folder.path().join("model.onnx"));
        let outputs = runner.outputs();
        assert_eq!(outputs[..3], ["logits", "rollout", "rollout_by_start"]);
        assert!(
            outputs.len() == 3
                || outputs[3..] == ["class_attention"]
                || outputs[3..] == ["evidence", "evidence_rest", "evidence_class"],
            "{outputs:?}"
        );

        let [rows, columns] = manifest.tokens.grid;
        let patch = manifest.architecture.patch;
        let images = flat(&golden["pixel_values"]);
        let count = golden["pixel_values"].as_array().unwrap().len();
        let mut run = |count: usize, images: &[f32]| {
            runner.run(
                "pixel_values",
                &[count, 3, rows * patch, columns * patch],
                images,
            )
        };
        let together = run(count, &images);
        let logits = flat(&golden["logits"]);
        close(&together[0].1, &logits, 10.0 * tolerance, "logits");
        let by_start = flat(&golden["rollout_by_start"][by_name]);
        close(&together[2].1, &by_start, tolerance, by_name);
        let (tokens, patches) = (manifest.tokens.total(), manifest.tokens.patches());
        let layers = manifest.architecture.layers;
        let whole = by_start.chunks(tokens * layers);
        let map: Vec<f32> = whole
            .flat_map(|rows| rows[tokens - patches..tokens].to_vec())
            .collect();
        close(&together[1].1, &map, tolerance, "map");

        let alone = run(1, &images[..images.len() / count]);
        for ((_, alone), (_, together)) in alone.iter().zip(&together) {
            close(
                alone,
                &together[..alone.len()],
                tolerance,
                "alone or in a batch",
            );
        }
    }
}

const FUSIONS: [HeadFusion; 3] = [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min];

/// All numbers in nested lists.
fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        other => vec![other.as_f64().unwrap() as f32],
    }
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: {worst}");
}

#[test]
fn torchscript() {
    agrees("torchscript_eager", 1e-5);
}

#[test]
fn torchscript_that_takes_one_image_only() {
    agrees("torchscript_sdpa_one_image", 1e-5);
}

#[test]
fn torchscript_in_an_old_opset() {
    agrees("torchscript_opset_11", 1e-5);
}

#[test]
fn torchscript_in_float16() {
    agrees("torchscript_half", 2e-3);
}

#[test]
fn dynamo_with_a_guard_behind_its_softmax() {
    agrees("dynamo_sdpa", 1e-5);
}

#[test]
fn dynamo_that_takes_one_image_with_constants_beside_it() {
    agrees("dynamo_one_image_external", 1e-5);
}

#[test]
fn exports_of_two_images_take_any_number() {
    agrees("dynamo_two_images", 1e-5);
    agrees("torchscript_two_images", 1e-5);
}

#[test]
fn dynamo_whose_attention_is_one_operator_with_a_mask() {
    agrees("dynamo_opset_23_masked_attention", 1e-5);
}

#[test]
fn timm_with_its_own_names_registers_and_layer_scale() {
    agrees("timm_names_registers", 1e-5);
}

#[test]
fn timm_with_a_mean_over_the_patches() {
    agrees("timm_fused_mean", 1e-5);
}

#[test]
fn timm_distilled() {
    agrees("timm_dynamo_distilled", 1e-5);
}

#[test]
fn timm_whose_attention_is_one_operator() {
    agrees("timm_opset_23_attention", 1e-5);
}

#[test]
fn timm_whose_pooling_only_the_sidecar_tells() {
    agrees("timm_untrained_layer_scale", 1e-5);
}

#[test]
fn optimum() {
    agrees("optimum", 1e-5);
}

/// A folder with a preprocessing for 16×16, since torchvision writes no description.
fn described(name: &str) -> (tempfile::TempDir, ImportOptions) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("preprocess.toml");
    fs::write(
        &file,
        "[preprocess]\nfilter = 'bilinear'\nresize = { mode = 'squash', height = 16, width = 16 }\n\
         normalize = { scale = 0.00392156862745098, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }\n",
    )
    .unwrap();
    let options = ImportOptions {
        preprocess: Some(PreprocessSource::File(file)),
        ..options(&golden(name).join("model.onnx"))
    };
    (folder, options)
}

#[test]
fn torchvision_of_both_exporters_without_a_sidecar() {
    for name in ["torchvision_torchscript", "torchvision_dynamo"] {
        let (_folder, options) = described(name);
        agrees_with(&options, name, 1e-5);
    }
}

#[test]
fn a_graph_without_a_sidecar_says_what_is_missing() {
    let message = refusal(&options(&golden("torchvision_dynamo/model.onnx")));
    assert!(message.contains("--preprocess"), "{message}");
}

/// The message of an import that fails, and leaves nothing.
#[tokio::test]
async fn without_a_map_labels_are_served_and_the_answer_says_why() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("model");
    let options = ImportOptions {
        out: out.clone(),
        without_map: true,
        ..options(&golden("dynamo_opset_23_masked_attention").join("model.onnx"))
    };
    import::run(&options, &mut |_| {}).unwrap();

    let server = Server::start(&["--drain-delay", "0s", "--model", out.to_str().unwrap()]);
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["predictions"].as_array().unwrap().len(), 5);
    assert_eq!(
        (&body["attention"], &body["id"]),
        (&Value::Null, &Value::Null)
    );
    let note = body["attention_note"].as_str().unwrap();
    assert!(note.contains("--without-map"), "{note}");
    let heads = post(
        &server.address,
        "/classify?attention=heads",
        sample("dog.jpg"),
    )
    .await;
    assert_eq!(heads.json()["attention_note"], note);
    let unasked = post(
        &server.address,
        "/classify?attention=none",
        sample("dog.jpg"),
    )
    .await;
    assert_eq!(unasked.json()["attention_note"], "not asked for");
    get(&server.address, "/attention/AAAAAAAAAAAAAAAAAAAAAA")
        .await
        .is_problem(404, "map_not_found");

    let shown = program().arg("inspect").arg(&out).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("without_map = "), "{shown}");
}

/// Labels need neither patches nor heads: any classifier will do.
#[test]
fn convolutional_networks_are_imported_to_serve_labels() {
    for (name, called) in [("resnet", "resnet"), ("convnext", "convnext")] {
        let text = fs::read_to_string(golden(name).join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let options = options(&golden(name).join("model.onnx"));
        // Where it is not asked for labels alone, there is evidence.
        let (_evidence, manifest) = imported_with(options.clone());
        assert!(manifest.graph.attribution.is_some() && manifest.graph.rollout.is_none());

        let (folder, manifest) = imported_with(ImportOptions {
            without_map: true,
            ..options
        });
        let mut runner = GraphRunner::from_file(&folder.path().join("model.onnx"));
        assert_eq!(runner.outputs(), ["logits"]);
        let pixels = flat(&expected["pixel_values"]);
        let run = runner.run("pixel_values", &[2, 3, 32, 32], &pixels);
        // Up to 83, so a hundred-thousandth of the largest.
        close(&run[0].1, &flat(&expected["logits"]), 1e-3, name);
        let labels = fs::read_to_string(folder.path().join("labels.txt")).unwrap();
        assert_eq!(labels, "cat\ndog\ncar\n");
        assert_eq!(manifest.architecture.name, called);
        // int(32 / 0.875) and the centre of it, as `ConvNextImageProcessor` of transformers 5 does,
        // which is torchvision's.
        assert_eq!(
            (manifest.preprocess.resize, manifest.preprocess.crop),
            (
                Resize::ShortestEdge { size: 36 },
                Some(Crop {
                    height: 32,
                    width: 32,
                    rounding: CropRounding::FloorPadBehind,
                    fill: [0; 3],
                })
            )
        );
    }
}

#[tokio::test]
async fn a_convolutional_network_is_served_and_refuses_what_needs_a_map() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("model");
    // A directory with one exported graph of any name.
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    for (from, to) in [
        ("model.onnx", "resnet.onnx"),
        ("config.json", "config.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
    ] {
        fs::copy(golden("resnet").join(from), source.join(to)).unwrap();
    }
    let options = ImportOptions {
        out: out.clone(),
        without_map: true,
        ..options(&source)
    };
    let summary = import::run(&options, &mut |_| {}).unwrap().to_string();
    assert!(summary.contains("labels only"), "{summary}");

    let server = Server::start(&["--drain-delay", "0s", "--model", out.to_str().unwrap()]);
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["predictions"].as_array().unwrap().len(), 3);
    assert_eq!(body["attention"], Value::Null);
    let described = get(&server.address, "/v2/models/model").await;
    assert_eq!(described.status, 200, "{}", described.text());

    let samples = crate::process::models("samples");
    let evaluated = program()
        .args(["evaluate", "--pictures", "1", "--model"])
        .args([&out, &samples])
        .output()
        .unwrap();
    assert_eq!(evaluated.status.code(), Some(1));
    let said = String::from_utf8(evaluated.stderr).unwrap();
    assert!(said.contains("makes no map"), "{said}");
}

#[tokio::test]
async fn a_convolutional_network_answers_evidence_and_says_that_it_has_no_rollout() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("model");
    let options = ImportOptions {
        out: out.clone(),
        ..options(&golden("resnet").join("model.onnx"))
    };
    import::run(&options, &mut |_| {}).unwrap();

    let server = Server::start(&["--drain-delay", "0s", "--model", out.to_str().unwrap()]);
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["attention"]["maps"], serde_json::json!(["class"]));
    let url = body["attention"]["url"].as_str().unwrap();
    get(&server.address, url)
        .await
        .is_problem(409, "map_not_kept");
    for prediction in body["predictions"].as_array().unwrap() {
        let class = &prediction["class_id"];
        let map = format!("{url}?class={class}");
        let numbers = get(&server.address, &format!("{map}&format=json"))
            .await
            .json();
        let values = numbers["values"].as_array().unwrap().iter();
        let sum: f64 = values.map(|value| value.as_f64().unwrap()).sum();
        let of = |name: &str| numbers[name].as_f64().unwrap();
        let logit = of("logit");
        let residual = (sum + of("unattributed") - logit).abs();
        assert!(residual < 1e-3 * logit.abs().max(1.0), "{numbers}");
        let drawn = get(&server.address, &map).await;
        assert_eq!(
            (drawn.status.as_u16(), drawn.header("content-type")),
            (200, "image/png")
        );
    }
}
