//! Reads the goldens that `tests/goldens/pillow/make.py` wrote.

use std::{fs, path::PathBuf};

use serde::de::DeserializeOwned;

use super::Rgb8;

/// The bytes of one file.
pub(crate) fn bytes(path: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/goldens/pillow");
    let path = PathBuf::from(root).join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A list of cases.
pub(crate) fn json<T: DeserializeOwned>(path: &str) -> T {
    serde_json::from_slice(&bytes(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Pixels, stored as RGB PNG.
pub(crate) fn pixels(path: &str) -> Rgb8 {
    image::load_from_memory(&bytes(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .into_rgb8()
        .into()
}
