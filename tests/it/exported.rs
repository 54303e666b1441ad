//! Graphs that were exported elsewhere answer what they answered before, with a map that is the
//! library's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use patchlight::{
    import::{self, ImportOptions, PreprocessSource, Source},
    model::manifest::HeadFusion,
    onnx::proto::{AttributeProto, ModelProto, NodeProto, StringStringEntryProto},
};
use prost::Message;
use serde_json::Value;

use crate::{
    client::{get, post},
    graph::imported_with,
    process::{Server, program},
    service::sample,
    support::{Runner, runtime},
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
        let mut runner = Runner::from_file(&folder.path().join("model.onnx"));
        let outputs = runner.outputs();
        assert_eq!(outputs[..3], ["logits", "rollout", "rollout_by_start"]);
        assert!(
            outputs.len() == 3 || outputs[3..] == ["class_attention"],
            "{outputs:?}"
        );

        let [rows, columns] = manifest.tokens.grid;
        let patch = manifest.architecture.patch;
        let pictures = flat(&golden["pixel_values"]);
        let count = golden["pixel_values"].as_array().unwrap().len();
        let mut run = |count: usize, pictures: &[f32]| {
            runner.run(
                "pixel_values",
                &[count, 3, rows * patch, columns * patch],
                pictures,
            )
        };
        let together = run(count, &pictures);
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

        let alone = run(1, &pictures[..pictures.len() / count]);
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
fn torchscript_that_takes_one_picture_only() {
    agrees("torchscript_sdpa_one_picture", 1e-5);
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
fn dynamo_that_takes_one_picture_with_constants_beside_it() {
    agrees("dynamo_one_picture_external", 1e-5);
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
fn timm_whose_readout_only_the_description_tells() {
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
fn torchvision_of_both_exporters_without_a_description() {
    for name in ["torchvision_torchscript", "torchvision_dynamo"] {
        let (_folder, options) = described(name);
        agrees_with(&options, name, 1e-5);
    }
}

#[test]
fn a_graph_without_a_description_says_what_is_missing() {
    let message = refusal(&options(&golden("torchvision_dynamo/model.onnx")));
    assert!(message.contains("--preprocess"), "{message}");
}

/// The message of an import that fails, and leaves nothing.
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

/// A copy of a golden, whose graph is changed.
fn changed(name: &str, change: impl FnOnce(&mut ModelProto)) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let graph = folder.path().join("model.onnx");
    let mut model = ModelProto::decode(fs::read(&graph).unwrap().as_slice()).unwrap();
    change(&mut model);
    fs::write(&graph, model.encode_to_vec()).unwrap();
    folder
}

fn refusal_of_changed(name: &str, change: impl FnOnce(&mut ModelProto)) -> String {
    let folder = changed(name, change);
    refusal(&options(&folder.path().join("model.onnx")))
}

fn nodes(model: &mut ModelProto) -> &mut Vec<NodeProto> {
    &mut model.graph.as_mut().unwrap().node
}

fn set_int(node: &mut NodeProto, name: &str, value: i64) {
    node.attribute.retain(|attribute| attribute.name() != name);
    node.attribute.push(AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(2),
        i: Some(value),
        ..AttributeProto::default()
    });
}

#[test]
fn a_fused_operator_is_named_and_another_way_is_offered() {
    let message = refusal_of_changed("dynamo_opset_23_masked_attention", |model| {
        let attention = nodes(model)
            .iter_mut()
            .find(|node| node.op_type() == "Attention");
        set_int(attention.unwrap(), "is_causal", 1);
    });
    for said in ["1 Attention", "opset of at most 22", "--without-map"] {
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn softmaxes_over_another_axis_are_not_taken_for_attention() {
    let message = refusal_of_changed("torchscript_eager", |model| {
        let softmaxes = nodes(model)
            .iter_mut()
            .filter(|node| node.op_type() == "Softmax");
        softmaxes.for_each(|node| set_int(node, "axis", 1));
    });
    assert!(message.contains("of 2 Softmax nodes none"), "{message}");
}

#[test]
fn fewer_attention_matrices_than_blocks_are_refused() {
    let folder = changed("torchscript_eager", |_| {});
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    for (find, replace, said) in [
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "2 attention matrices were found",
        ),
        (
            "\"num_attention_heads\": 3",
            "\"num_attention_heads\": 4",
            "has 3 heads",
        ),
    ] {
        assert!(text.contains(find), "{text}");
        fs::write(&config, text.replace(find, replace)).unwrap();
        let options = options(&folder.path().join("model.onnx"));
        let message = refusal(&options);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_description_of_another_readout_is_refused() {
    let folder = changed("timm_fused_mean", |_| {});
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("\"avg\""), "{text}");
    fs::write(&config, text.replace("\"avg\"", "\"token\"")).unwrap();
    let message = refusal(&options(&folder.path().join("model.onnx")));
    assert!(
        message.contains("reads a mean over the patches"),
        "{message}"
    );
}

#[test]
fn scores_instead_of_logits_are_refused() {
    let message = refusal_of_changed("torchscript_eager", |model| {
        let last = nodes(model).last_mut().unwrap();
        last.output[0] = "raw".to_owned();
        nodes(model).push(NodeProto {
            op_type: Some("Softmax".to_owned()),
            input: vec!["raw".to_owned()],
            output: vec!["logits".to_owned()],
            ..NodeProto::default()
        });
    });
    assert!(message.contains("logits are expected"), "{message}");
}

fn pointed_elsewhere(location: &str) -> tempfile::TempDir {
    changed("dynamo_one_picture_external", |model| {
        let tensors = &mut model.graph.as_mut().unwrap().initializer;
        let tensor = tensors
            .iter_mut()
            .find(|t| !t.external_data.is_empty())
            .unwrap();
        tensor
            .external_data
            .retain(|entry| entry.key() != "location");
        tensor.external_data.push(StringStringEntryProto {
            key: Some("location".to_owned()),
            value: Some(location.to_owned()),
        });
    })
}

#[test]
fn constants_outside_the_directory_are_not_read() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, vec![0; 1 << 20]).unwrap();
    let beside = format!(
        "../{}/secret",
        folder.path().file_name().unwrap().to_string_lossy()
    );
    for location in [secret.to_str().unwrap(), &beside, "/etc/passwd", ""] {
        let folder = pointed_elsewhere(location);
        let message = refusal(&options(&folder.path().join("model.onnx")));
        assert!(
            message.contains("a file beside the graph is expected"),
            "{message}"
        );
    }
    #[cfg(unix)]
    {
        let folder = pointed_elsewhere("link");
        std::os::unix::fs::symlink(&secret, folder.path().join("link")).unwrap();
        let message = refusal(&options(&folder.path().join("model.onnx")));
        assert!(
            message.contains("leads out of the graph's directory"),
            "{message}"
        );
    }
    let folder = pointed_elsewhere("gone.data");
    let message = refusal(&options(&folder.path().join("model.onnx")));
    assert!(message.contains("copy it beside the graph"), "{message}");
}

#[test]
fn constants_that_a_file_is_too_short_for_are_refused() {
    let folder = changed("dynamo_one_picture_external", |_| {});
    let data = folder.path().join("model.onnx.data");
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 64]).unwrap();
    let message = refusal(&options(&folder.path().join("model.onnx")));
    assert!(!message.is_empty());
}

#[test]
fn what_is_no_graph_is_refused() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("x.onnx");
    for content in [&b""[..], b"not a graph at all", &[0xff; 100]] {
        fs::write(&file, content).unwrap();
        let message = refusal(&options(&file));
        assert!(message.contains("is not an ONNX file"), "{message}");
    }
}

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
