//! A file with secrets whose content may change while the program runs.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::secret_file::SecretFileError;

/// How often a file is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a file says, as of the last time that it could be read.
#[derive(Debug)]
pub struct Watched<T> {
    path: PathBuf,
    /// What it holds, for the log.
    what: &'static str,
    read: fn(&Path) -> Result<T, SecretFileError>,
    current: RwLock<Arc<T>>,
}

impl<T: PartialEq> Watched<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn load(
        what: &'static str,
        path: &Path,
        read: fn(&Path) -> Result<T, SecretFileError>,
    ) -> Result<Self, SecretFileError> {
        Ok(Self {
            path: path.to_owned(),
            what,
            read,
            current: RwLock::new(Arc::new(read(path)?)),
        })
    }

    /// What is in force.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows changes of the file for ever; one that cannot be read leaves what it said before in
    /// force. Needs a tokio runtime.
    pub async fn follow(&self) {
        let mut complained = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match (self.read)(&self.path) {
                Ok(read) => {
                    complained = false;
                    self.replace(read);
                }
                Err(why) if !complained => {
                    complained = true;
                    tracing::error!(%why, "the {} stay as they were", self.what);
                }
                Err(_) => {}
            }
        }
    }

    fn replace(&self, read: T) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if **current != read {
            tracing::info!("the {} changed", self.what);
            *current = Arc::new(read);
        }
    }
}
