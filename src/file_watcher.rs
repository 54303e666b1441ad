//! What files say that may change while the program runs.
//!
//! API keys, signing keys and the TLS certificate are each a [`Watched`] value. Files are polled:
//! notifications of the system miss what editors, Kubernetes and network file systems do.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::secret_file::SecretFileError;

/// How often files are looked at.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Makes a value of what the files say now. It gets the value in force, of which it may keep what
/// did not change; there is none the first time.
type Read<T> = dyn Fn(Option<&T>) -> Result<T, SecretFileError> + Send + Sync;

/// What files say, as of the last time that they could be read. A handle; clones share it.
pub struct Watched<T>(Arc<Inner<T>>);

struct Inner<T> {
    /// What it is, for the log.
    what: &'static str,
    read: Box<Read<T>>,
    /// A lock around an `Arc` rather than `arc-swap`: it is held for the count of one reference,
    /// a few times per request.
    current: RwLock<Arc<T>>,
}

impl<T: PartialEq> Watched<T> {
    /// Reads the files. `what` names the value in the log: "the {what} changed".
    ///
    /// # Errors
    /// Those of `read`.
    pub fn load(
        what: &'static str,
        read: impl Fn(Option<&T>) -> Result<T, SecretFileError> + Send + Sync + 'static,
    ) -> Result<Self, SecretFileError> {
        let current = RwLock::new(Arc::new(read(None)?));
        Ok(Self(Arc::new(Inner {
            what,
            read: Box::new(read),
            current,
        })))
    }

    /// Follows changes of the files for ever. An error leaves the value in force, and is logged
    /// when it is another one than at the last look. Needs a tokio runtime.
    pub async fn follow(self) {
        let Inner { what, read, .. } = &*self.0;
        let mut logged = None;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let current = self.get();
            match read(Some(&current)) {
                Ok(new) => {
                    logged = None;
                    if *current != new {
                        self.replace(new);
                        tracing::info!("the {what} changed");
                    }
                }
                Err(error) => {
                    if logged.as_ref() != Some(&error) {
                        tracing::error!(%error, "the {what} cannot be read again; the old stay in force");
                    }
                    logged = Some(error);
                }
            }
        }
    }

    fn replace(&self, new: T) {
        let current = &self.0.current;
        *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }
}

impl<T> Watched<T> {
    /// The value in force.
    pub fn get(&self) -> Arc<T> {
        let current = &self.0.current;
        Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::secret_file::SecretFile;

    /// What a look finds: a value, or an error of this file.
    type Found = Arc<Mutex<Result<u32, SecretFileError>>>;

    fn watched(found: &Found) -> Watched<(u32, u32)> {
        let found = Arc::clone(found);
        let read = move |current: Option<&(u32, u32)>| {
            let looks = current.map_or(0, |(_, looks)| *looks);
            let new = found.lock().unwrap().clone()?;
            // The second number counts changes, on top of what was in force.
            Ok(match current {
                Some(same) if same.0 == new => *same,
                _ => (new, looks + 1),
            })
        };
        Watched::load("numbers", read).unwrap()
    }

    fn error() -> SecretFileError {
        SecretFile::read("/no/such/file".as_ref()).unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_with_what_was_in_force_and_an_error_changes_nothing() {
        let found: Found = Arc::new(Mutex::new(Ok(1)));
        let watched = watched(&found);
        let following = tokio::spawn(watched.clone().follow());
        for (look, in_force) in [
            (Ok(1), (1, 1)),
            (Ok(7), (7, 2)),
            (Err(error()), (7, 2)),
            (Ok(7), (7, 2)),
            (Ok(1), (1, 3)),
        ] {
            *found.lock().unwrap() = look;
            tokio::time::sleep(2 * POLL_INTERVAL).await;
            assert_eq!(*watched.get(), in_force);
        }
        following.abort();
    }

    #[test]
    fn what_cannot_be_read_at_first_is_refused() {
        let refused = Watched::<u32>::load("numbers", |_| Err(error()));
        assert!(refused.is_err());
    }
}
