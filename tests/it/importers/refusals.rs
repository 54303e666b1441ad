//! What is not understood is refused, by name.

use std::{fs, path::PathBuf};

use patchlight_import::{ImportOptions, Source};

use super::{golden, refusal};

/// A copy of a golden directory, to be spoiled.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
fn timm_refuses_what_tensors_do_not_show() {
    for (find, replace, said) in [
        ("\"vit_tiny_patch16_224\"", "\"swin_tiny\"", "vit_*, deit_*"),
        (
            "\"vit_tiny_patch16_224\"",
            "\"vit_giant_patch14_reg4_dinov2\"",
            "mlp.fc2.weight",
        ),
        (
            "\"num_heads\": 2",
            "\"scale_attn_norm\": true",
            "attn.norm.",
        ),
        (
            "\"num_heads\": 2",
            "\"act_layer\": \"mish\"",
            "gelu, gelu_tanh, quick_gelu",
        ),
        (
            "\"global_pool\": \"token\"",
            "\"global_pool\": \"map\"",
            "attn_pool.mlp.fc1.weight` is missing",
        ),
        ("\"center\"", "\"tiles\"", "--preprocess FILE"),
        (
            "\"bicubic\"",
            "\"cubic\"",
            "bilinear, hamming, bicubic and lanczos",
        ),
    ] {
        let folder = copy("timm/class_token");
        let config = folder.path().join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains(find), "{find}");
        fs::write(&config, text.replace(find, replace)).unwrap();
        let source = Source::Checkpoint(folder.path().to_owned());
        let message = refusal(&ImportOptions::new(source, PathBuf::new()));
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn shards_that_are_missing_or_elsewhere_are_refused() {
    let folder = copy("transformers/deit");
    let source = Source::Checkpoint(folder.path().to_owned());
    let options = ImportOptions::new(source, PathBuf::new());
    let shard = "model-00002-of-00003.safetensors";
    fs::remove_file(folder.path().join(shard)).unwrap();
    let message = refusal(&options);
    assert!(
        message.contains(shard) && message.contains("download it"),
        "{message}"
    );

    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("model-00001", "../model-00001")).unwrap();
    let message = refusal(&options);
    assert!(message.contains("a file beside the index"), "{message}");
}

#[test]
fn weights_without_their_description_are_named() {
    let folder = copy("timm/class_token");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let file = folder.path().join("model.safetensors");
    let message = refusal(&ImportOptions::new(
        Source::Checkpoint(file),
        PathBuf::new(),
    ));
    assert!(
        message.contains("timm's tensor names, but no config.json"),
        "{message}"
    );
}
