//! Graphs whose attention is not surely known, or that are damaged, are refused with the reason.

use std::fs;

use patchlight_import::ImportOptions;
use patchlight_model::manifest::Precision;
use patchlight_onnx::proto::{AttributeProto, ModelProto, NodeProto, StringStringEntryProto};

use prost::Message;

use super::{golden, options, refusal};

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
fn a_sidecar_with_another_pooling_is_refused() {
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
    changed("dynamo_one_image_external", |model| {
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
    let folder = changed("dynamo_one_image_external", |_| {});
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

#[test]
fn the_largest_of_the_patches_is_not_taken_for_their_mean() {
    let message = refusal_of_changed("timm_fused_mean", |model| {
        let mut pools = nodes(model).iter_mut().rev();
        let pool = pools.find(|node| node.op_type() == "ReduceMean").unwrap();
        pool.op_type = Some("ReduceMax".to_owned());
    });
    assert!(message.contains("has a ReduceMax"), "{message}");
}

/// A graph keeps the precision that it was exported in.
#[test]
fn lower_precision_is_refused_with_the_reason() {
    for precision in [Precision::Int8, Precision::Fp16] {
        let options = ImportOptions {
            precision,
            ..options(&golden("dynamo_sdpa").join("model.onnx"))
        };
        let message = refusal(&options);
        assert!(
            message.contains("keeps its precision; import the checkpoint"),
            "{message}"
        );
    }
}
