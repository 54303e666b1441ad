//! Damaged checkpoints, graphs and manifests: an error or an import, never a panic.
//!
//! Model directories come from people one trusts, but checkpoints come from the web.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use patchlight_import::{self as import, ImportOptions, Source};
use patchlight_model::{Manifest, ModelInfo};
use patchlight_onnx::proto::ModelProto;

use prost::Message;

use super::mutate::Mutator;
use crate::process::models;

/// How many damaged copies of each file in a short run.
fn copies() -> usize {
    let asked = env::var("HOSTILE_FILES").ok();
    asked
        .and_then(|count| count.parse().ok())
        .map_or(20, |files: usize| files / 20)
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(path)
}

/// Copies a folder's files, without folders in it.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Damages `file` of the checkpoint in `folder` again and again and imports what comes of it.
fn import_damaged(folder: &str, file: &str) {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let checkpoint = scratch.path().join("checkpoint");
    fs::create_dir(&checkpoint).unwrap();
    copy(&golden(folder), &checkpoint);
    let intact = fs::read(checkpoint.join(file)).unwrap();
    // JAX's files and torchvision's are checkpoints by themselves.
    let source = match file.ends_with(".npz") || file.ends_with(".pth") {
        true => checkpoint.join(file),
        false => checkpoint.clone(),
    };
    let out = scratch.path().join("out");
    let options = ImportOptions::new(Source::Checkpoint(source), out);
    let mut mutator = Mutator::new(11);
    for number in 0..copies() {
        let damaged = mutator.mutate(&intact, &intact);
        fs::write(checkpoint.join(file), &damaged).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| import::run(&options, &mut |_| {})));
        if outcome.is_err() {
            let kept =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("panics-{number}-{file}"));
            fs::write(&kept, &damaged).unwrap();
            panic!("importing {} panics", kept.display());
        }
    }
}

#[test]
fn damaged_safetensors() {
    import_damaged("timm/no_qkv_bias_float16", "model.safetensors");
}

#[test]
fn damaged_shards() {
    import_damaged("transformers/deit", "model-00002-of-00003.safetensors");
    import_damaged("transformers/deit", "model.safetensors.index.json");
}

#[test]
fn damaged_torch_archives() {
    import_damaged("timm/tanh", "pytorch_model.bin");
    import_damaged("torchvision/tiny", "weights.pth");
    import_damaged("torchvision/tiny", "legacy.pth");
}

#[test]
fn damaged_numpy_archives() {
    import_damaged("jax", "augreg.npz");
}

#[test]
fn damaged_configurations() {
    import_damaged("transformers/plain", "config.json");
    import_damaged("transformers/plain", "preprocessor_config.json");
    import_damaged("timm/class_token", "config.json");
}

#[test]
fn damaged_manifests_and_graphs() {
    let manifest = fs::read(models("demo/model.toml")).unwrap();
    let graph = fs::read(golden("onnx/every_field.onnx")).unwrap();
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    copy(&models("demo"), scratch.path());
    let mut mutator = Mutator::new(13);
    for _ in 0..10 * copies() {
        let damaged = mutator.mutate(&manifest, &manifest);
        if let Ok(text) = str::from_utf8(&damaged)
            && let Ok(read) = toml::from_str::<Manifest>(text)
        {
            // Whatever it says, looking at it does no harm.
            let _ = read.validate();
        }
        let _ = ModelProto::decode(mutator.mutate(&graph, &graph).as_slice());
    }
    for _ in 0..copies().min(50) {
        let damaged = mutator.mutate(&manifest, &manifest);
        fs::write(scratch.path().join("model.toml"), damaged).unwrap();
        // Digests of files that may not exist, with paths that may lead anywhere.
        let _ = ModelInfo::open(scratch.path());
    }
}
