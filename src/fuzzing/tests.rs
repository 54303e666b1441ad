//! What once broke a target stays harmless.

use std::{fs, path::Path};

/// Every file of `tests/fuzz/findings/NAME`, read by the target of that name.
fn read_all(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/findings")
        .join(name);
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        target(&fs::read(path).unwrap());
    }
}

#[test]
fn pictures() {
    read_all("picture", super::picture);
}

#[test]
fn bodies() {
    read_all("body", super::body);
}

#[test]
fn manifests() {
    read_all("manifest", super::manifest);
}

#[test]
fn checkpoints() {
    read_all("checkpoint", super::checkpoint);
}

#[test]
fn graphs() {
    read_all("graph", super::graph);
}

#[test]
fn inference_requests() {
    read_all("oip", super::oip);
}

#[test]
fn kept_maps() {
    read_all("kept", super::kept);
}
