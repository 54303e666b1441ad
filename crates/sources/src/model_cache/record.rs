//! What was asked for, and which directory it became.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use patchlight_import::IMPORTER;
use patchlight_model::manifest::Origin;
use serde::{Deserialize, Serialize};

use super::ImportChoice;
use crate::{Source, SourceError};

/// A file of `records/`. When it was used last is the file's own time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Record {
    /// As it was asked for.
    pub(super) source: String,
    /// In numbers of this kind.
    pub(super) precision: String,
    /// The program that wrote the directory.
    pub(super) importer: String,
    /// Seconds since 1970.
    pub(super) made: u64,
    /// The model directory.
    pub(super) directory: PathBuf,
    /// Where it was fetched from.
    pub(super) origin: Origin,
}

impl Record {
    pub(super) fn new(
        source: &Source,
        choice: &ImportChoice,
        origin: &Origin,
        directory: &Path,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            source: source.to_string(),
            precision: choice.precision().to_string(),
            importer: IMPORTER.to_owned(),
            made: now.map_or(0, |now| now.as_secs()),
            directory: std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned()),
            origin: origin.clone(),
        }
    }

    /// `None` if there is none, or one that this version does not read: it is written again.
    pub(super) fn read(path: &Path) -> Option<Self> {
        toml::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    /// Puts it in place whole.
    pub(super) fn write(&self, path: &Path) -> Result<(), SourceError> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder).map_err(SourceError::file(folder, "make it"))?;
        let text = toml::to_string(self).map_err(std::io::Error::other);
        // The lock of this key keeps others from the same name.
        let partial = path.with_extension("partial");
        text.and_then(|text| fs::write(&partial, text))
            .and_then(|()| fs::rename(&partial, path))
            .map_err(SourceError::file(path, "write it"))
    }
}

/// Notes that a record was used. On a volume that only may be read nothing is noted, and nothing
/// would be removed there.
pub(super) fn touch(path: &Path) {
    let touched = File::options().append(true).open(path);
    let _ = touched.and_then(|file| file.set_modified(SystemTime::now()));
}
