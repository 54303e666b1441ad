//! One process at a time, among all on a volume.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use patchlight_import::CancelFlag;

use crate::{Observer, SourceError};

/// The exclusive right to what a lock file stands for; given back when it is dropped, or when the
/// process ends in whatever way. The file itself stays: removing it would let two in.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "holds the lock while it is open")] File);

impl FileLock {
    /// Waits for it; after a moment it says what for.
    ///
    /// # Errors
    /// If the file cannot be made or locked, or the wait is cancelled.
    pub(crate) fn acquire(
        path: &Path,
        purpose: &str,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<Self, SourceError> {
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        const SAY_SO: Duration = Duration::from_secs(1);
        let file = open(path)?;
        let started = Instant::now();
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(SourceError::file(path, "lock it")(error));
                }
            }
            if cancel.is_cancelled() {
                return Err(SourceError::Cancelled);
            }
            if !said && started.elapsed() >= SAY_SO {
                observer.note(&format!("waiting for another process that {purpose}"));
                said = true;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Takes it if nobody has it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>, SourceError> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(SourceError::file(path, "lock it")(error)),
        }
    }
}

fn open(path: &Path) -> Result<File, SourceError> {
    let folder: PathBuf = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    fs::create_dir_all(&folder).map_err(SourceError::file(&folder, "make it"))?;
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(SourceError::file(path, "open it"))
}
