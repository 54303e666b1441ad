//! Where the demo model lies when no other is named.

use std::{
    env,
    path::{Path, PathBuf},
};

use patchlight_model::MANIFEST;

/// The demo's directory: below the working directory, beside the program, in
/// `../share/patchlight` as packages install it, or in the source tree the program was built from.
pub(crate) fn find() -> Result<PathBuf, String> {
    let program = env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let mut candidates = vec![PathBuf::from("models/demo")];
    candidates.extend(beside.map(|folder| folder.join("models/demo")));
    candidates.extend(beside.map(|folder| folder.join("../share/patchlight/models/demo")));
    candidates.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo"));
    candidates
        .iter()
        .find(|folder| folder.join(MANIFEST).is_file())
        .cloned()
        .ok_or_else(|| {
            let all: Vec<String> = candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            format!(
                "the demo model was not found; name a model directory (looked in {})",
                all.join(", ")
            )
        })
}
