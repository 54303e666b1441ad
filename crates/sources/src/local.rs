//! What lies in a directory of this machine that something was downloaded into.

use std::{fs, path::Path, time::UNIX_EPOCH};

use patchlight_model::MANIFEST;
use sha2::{Digest, Sha256};

use crate::{
    Content, SourceError,
    select::{self, Parts, Selection},
};

/// Chooses what an import needs of a directory; all of it has to be there.
///
/// # Errors
/// If it cannot be read, or, in the caller's words, what is missing.
pub(crate) fn content(
    directory: &Path,
    missing: &dyn Fn(String) -> SourceError,
) -> Result<Content, SourceError> {
    let names = names(directory)?;
    match select::select(&names).map_err(missing)? {
        Selection::ModelDir => {
            let manifest = read_text(&directory.join(MANIFEST))?;
            let files = select::files_of_manifest(&manifest)
                .map_err(|error| missing(format!("{MANIFEST}: {error}")))?;
            if let Some(lacking) = files.iter().find(|file| !names.contains(file)) {
                return Err(missing(format!("{lacking} is not there")));
            }
            Ok(Content::ModelDir(directory.to_owned()))
        }
        Selection::Checkpoint { weights, parts, .. } => {
            if parts == Parts::Shards {
                let index = read_text(&directory.join(&weights))?;
                select::shards(index.as_bytes(), &names)
                    .map_err(|error| missing(format!("{weights} {error}")))?;
            }
            Ok(Content::Checkpoint(directory.join(weights)))
        }
    }
}

/// Names of all files in a directory and below it, `/` between folders; links are followed.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, SourceError> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(prefix) = folders.pop() {
        let folder = directory.join(&prefix);
        let failed = || SourceError::file(&folder, "read it");
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let path = entry.path();
            if path.is_file() {
                names.push(name);
            } else if path.is_dir() {
                folders.push(format!("{name}/"));
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What names the content of a directory until one of its files is written again: SHA-256 of the
/// names, sizes and times of all files. Weights of gigabytes are not read for it.
///
/// # Errors
/// If the directory cannot be read.
pub(crate) fn revision(directory: &Path) -> Result<String, SourceError> {
    let mut digest = Sha256::new();
    for name in names(directory)? {
        let path = directory.join(&name);
        let metadata = fs::metadata(&path).map_err(SourceError::file(&path, "read it"))?;
        let modified = metadata.modified().ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let nanoseconds = since.map_or(0, |since| since.as_nanos());
        digest.update(name.len().to_le_bytes());
        digest.update(name);
        digest.update(metadata.len().to_le_bytes());
        digest.update(nanoseconds.to_le_bytes());
    }
    Ok(hex::encode(digest.finalize()))
}

fn read_text(path: &Path) -> Result<String, SourceError> {
    fs::read_to_string(path).map_err(SourceError::file(path, "read it"))
}
