//! Other names for the same tensors make the same graph.

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

#[test]
fn names_that_wrappers_prefix() {
    let plain = digest_with(str::to_owned);
    for wrapper in ["module.", "_orig_mod.", "module._orig_mod."] {
        assert_eq!(digest_with(|name| format!("{wrapper}{name}")), plain);
    }
}
