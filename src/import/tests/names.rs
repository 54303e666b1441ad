//! Other names for the same tensors make the same graph.

use safetensors::Dtype;

use super::Case;

/// The graph's digest after each tensor got another name.
fn digest_with(rename: impl Fn(&str) -> String) -> String {
    let case = Case::new();
    case.edit_tensors(|tensors| {
        for (name, ..) in tensors {
            *name = rename(name);
        }
    });
    case.import().unwrap().manifest.files["model.onnx"].clone()
}

/// What `model.state_dict()` of transformers 5 calls them, though `save_pretrained` still writes
/// the old names.
#[test]
fn names_of_the_model_itself() {
    let native = |name: &str| {
        name.replace("encoder.layer.", "layers.")
            .replace("attention.attention.query", "attention.q_proj")
            .replace("attention.attention.key", "attention.k_proj")
            .replace("attention.attention.value", "attention.v_proj")
            .replace("attention.output.dense", "attention.o_proj")
            .replace("intermediate.dense", "mlp.fc1")
            .replace("output.dense", "mlp.fc2")
    };
    assert_eq!(
        native("vit.encoder.layer.1.output.dense.bias"),
        "vit.layers.1.mlp.fc2.bias"
    );
    assert_eq!(digest_with(native), digest_with(str::to_owned));
}

/// `DataParallel`, `torch.compile`, Lightning, and classes that keep the network in a field.
#[test]
fn a_prefix_that_all_names_share_is_left_out_and_named() {
    let plain = digest_with(str::to_owned);
    for prefix in [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "net.",
        "model.",
        "backbone.encoder.",
    ] {
        let case = prefixed(prefix);
        let summary = case.import().unwrap();
        assert_eq!(summary.manifest.files["model.onnx"], plain);
        let said = format!("`{prefix}` before the tensors' names was left out\n");
        assert!(summary.to_string().contains(&said), "{summary}");
    }
}

fn prefixed(prefix: &str) -> Case {
    let case = Case::new();
    case.edit_tensors(|tensors| {
        for (name, ..) in tensors {
            name.insert_str(0, prefix);
        }
    });
    case
}

/// It took 24 seconds to take them off one by one.
#[test]
fn a_prefix_of_any_length_is_one_prefix() {
    let case = prefixed(&"module.".repeat(8000));
    let summary = case.import().unwrap().to_string();
    assert!(summary.len() < 2000, "{summary}");
}

/// A Lightning module has its loss and its metrics beside the network.
#[test]
fn tensors_outside_the_prefix_are_no_part_of_the_network() {
    let case = prefixed("model.");
    case.edit_tensors(|tensors| {
        for name in ["criterion.weight", "modelled", "train_acc.tp"] {
            tensors.push((name.to_owned(), Dtype::F32, vec![1], vec![0; 4]));
        }
    });
    let summary = case.import().unwrap();
    assert_eq!(
        summary.manifest.files["model.onnx"],
        digest_with(str::to_owned)
    );
    let said = "`model.` before the tensors' names was left out; 3 without it are no part of the \
                network, such as `criterion.weight`";
    assert!(summary.to_string().contains(said), "{summary}");
}

#[test]
fn several_networks_in_a_file_are_named() {
    let case = prefixed("student.");
    case.edit_tensors(|tensors| {
        let mut teacher = tensors.clone();
        for (name, ..) in &mut teacher {
            *name = name.replace("student.", "teacher.");
        }
        tensors.append(&mut teacher);
    });
    case.refused(&[
        "`vit.embeddings.patch_embeddings.projection.weight`",
        "several times, below `student.` and `teacher.`",
    ]);
}

#[test]
fn a_tensor_that_is_missing_comes_with_the_nearest_that_are_there() {
    let case = Case::new();
    case.edit_tensors(|tensors| {
        for (name, ..) in tensors {
            *name = name.replace("vit.", "backbone.");
        }
    });
    case.refused(&[
        "`vit.embeddings.patch_embeddings.projection.weight` is missing",
        "nearest of",
        "are `backbone.embeddings.patch_embeddings.projection.weight`",
    ]);

    // The classifier beside the network, as wrapper classes have it.
    let case = Case::new();
    case.edit_tensors(|tensors| {
        for (name, ..) in tensors {
            *name = match name.strip_prefix("classifier.") {
                Some(rest) => format!("head.{rest}"),
                None => format!("net.{name}"),
            };
        }
    });
    case.refused(&["`classifier.weight` is missing", "nearest of"]);
}
