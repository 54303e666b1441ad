//! The clients of Hugging Face's task, unmodified: `huggingface_hub` in Python and
//! `@huggingface/inference` in JavaScript.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    client_examples::{self, folder},
    external_services::{has, skip},
    process::{Server, models},
};

#[test]
fn pythons_inference_client_finds_labels_and_errors() {
    let Some(python) = client_examples::python() else {
        return;
    };
    let server = Server::demo();
    let dog = models("samples/dog.jpg");
    client_examples::run(
        &python,
        "hf_task.py",
        &[&server.address, dog.to_str().unwrap()],
    );
}

/// The folder that `npm ci` has filled.
fn packages() -> Option<PathBuf> {
    if !has("node") || !has("npm") {
        skip("node or npm is not there");
        return None;
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci/hf-js");
    let installed = Command::new("bash")
        .arg(folder().join("npm.sh"))
        .output()
        .unwrap();
    if !installed.status.success() {
        let said = String::from_utf8_lossy(&installed.stderr);
        skip(&format!(
            "tests/clients/package.json cannot be installed: {said}"
        ));
        return None;
    }
    Some(target)
}

#[test]
fn javascripts_inference_client_finds_labels_and_errors() {
    let Some(packages) = packages() else { return };
    let server = Server::demo();
    let done = Command::new("node")
        .arg(packages.join("hf_task.mjs"))
        .arg(&server.address)
        .arg(models("samples/dog.jpg"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
