//! What a download left on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use patchlight_model::manifest::Origin;

use crate::{SourceError, lock::FileLock};

/// What a source has become on this machine.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What it is and where it lies.
    pub content: Content,
    /// The address and the revision that it was at.
    pub origin: Origin,
    /// Where it was downloaded to, if it is needed no more once it is imported. Nobody else removes
    /// it before this is dropped.
    pub downloads: Option<Downloaded>,
}

/// What was fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// A model directory of ours, which needs no import.
    ModelDir(PathBuf),
    /// A checkpoint's file of weights, its descriptions beside it.
    Checkpoint(PathBuf),
}

/// A directory of downloads, with the right to it.
#[derive(Clone, Debug)]
pub struct Downloaded {
    directory: PathBuf,
    #[expect(dead_code, reason = "holds the lock until the last copy is dropped")]
    lock: Arc<FileLock>,
}

impl Downloaded {
    pub(crate) fn new(directory: PathBuf, lock: FileLock) -> Self {
        Self {
            directory,
            lock: Arc::new(lock),
        }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(self) -> Result<(), SourceError> {
        fs::remove_dir_all(&self.directory).map_err(SourceError::file(&self.directory, "remove it"))
    }
}
