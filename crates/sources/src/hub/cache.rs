//! The hub's own cache layout, which its Python client reads and writes as well:
//!
//! ```text
//! models--ORG--NAME/
//!   refs/REVISION            the commit that a branch or tag was at
//!   blobs/ETAG               contents, by what the hub calls them
//!   blobs/ETAG.incomplete    one that is being downloaded
//!   snapshots/COMMIT/FILE    relative links to blobs
//! .locks/models--ORG--NAME/ETAG.lock
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{HubAddress, SourceError, address::is_commit};

/// The files of one commit.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    locks: PathBuf,
    model: PathBuf,
    commit: String,
    directory: PathBuf,
}

impl Snapshot {
    /// Where the files of a commit are, or will be.
    pub(super) fn new(root: &Path, address: &HubAddress, commit: &str) -> Self {
        let folder = format!("models--{}--{}", address.org, address.name);
        let model = root.join(&folder);
        Self {
            locks: root.join(".locks").join(folder),
            directory: model.join("snapshots").join(commit),
            model,
            commit: commit.to_owned(),
        }
    }

    /// That of the commit at which the revision was when it was downloaded last.
    pub(super) fn of_reference(root: &Path, address: &HubAddress) -> Option<Self> {
        let revision = address.revision.as_str();
        let commit = match address.revision.is_commit() {
            true => revision.to_owned(),
            false => {
                let model = Self::new(root, address, "").model;
                let text = fs::read_to_string(model.join("refs").join(revision)).ok()?;
                text.trim().to_owned()
            }
        };
        let snapshot = Self::new(root, address, &commit);
        (is_commit(&commit) && snapshot.directory.is_dir()).then_some(snapshot)
    }

    pub(super) fn commit(&self) -> &str {
        &self.commit
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a file is, or will be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether a file is there; a link to nothing is none.
    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.model.join("blobs").join(etag)
    }

    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.model.join("blobs").join(format!("{etag}.incomplete"))
    }

    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Makes the directories.
    pub(super) fn make(&self) -> Result<(), SourceError> {
        for directory in [&self.directory, &self.model.join("blobs")] {
            fs::create_dir_all(directory).map_err(SourceError::file(directory, "make it"))?;
        }
        Ok(())
    }

    pub(super) fn read_text(&self, name: &str) -> Result<String, SourceError> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(SourceError::file(&path, "read it"))
    }

    /// Puts a blob into the snapshot under its name.
    pub(super) fn link(&self, name: &str, etag: &str) -> Result<(), SourceError> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(folder).map_err(SourceError::file(folder, "make it"))?;
        // From snapshots/COMMIT/FILE, and one more for each folder in the name.
        let up = "../".repeat(2 + name.matches('/').count());
        let target = format!("{up}blobs/{etag}");
        #[cfg(unix)]
        let linked = replace(&path, |to| std::os::unix::fs::symlink(&target, to));
        #[cfg(not(unix))]
        let linked = {
            let _ = target;
            replace(&path, |to| fs::copy(self.blob(etag), to).map(drop))
        };
        linked.map_err(SourceError::file(&path, "put it in place"))
    }

    /// Notes at which commit a branch or tag is; a commit needs no note.
    pub(super) fn write_reference(&self, revision: &str) -> Result<(), SourceError> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.model.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|found| found == self.commit) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.model);
        fs::create_dir_all(folder).map_err(SourceError::file(folder, "make it"))?;
        replace(&path, |to| fs::write(to, &self.commit))
            .map_err(SourceError::file(&path, "write it"))
    }
}

/// Makes something beside a path and moves it there: at any moment the path is whole.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Process ids alone are the same in all containers that share a volume.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let unique = format!("{}-{}", std::process::id(), now.as_nanos());
    let beside = path.with_file_name(format!(".{name}.{unique}.tmp"));
    make(&beside)?;
    fs::rename(&beside, path)
}
