//! A folder for model directories that are only compared.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::ImportError;

/// Removed with all that is in it when it is dropped; what an interrupted import left is removed by
/// the next one.
pub(super) struct ScratchDir {
    path: PathBuf,
    /// Whether the directory to be made was not there before.
    new_out: bool,
    out: PathBuf,
}

impl ScratchDir {
    /// Inside the directory to be made: on the same disk, and used by this import alone.
    pub(super) fn new(out: &Path) -> Result<Self, ImportError> {
        let path = out.join(".check");
        let new_out = !out.exists();
        if path.exists() {
            fs::remove_dir_all(&path).map_err(ImportError::file(&path, "remove it"))?;
        }
        fs::create_dir_all(&path).map_err(ImportError::file(&path, "make it"))?;
        Ok(Self {
            path,
            new_out,
            out: out.to_owned(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Nothing more can be done about what cannot be removed; a directory that got files stays.
        drop(fs::remove_dir_all(&self.path));
        if self.new_out {
            drop(fs::remove_dir(&self.out));
        }
    }
}
