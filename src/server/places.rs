//! How many connections there may be at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most, where the system allows that many open files.
const MOST: usize = 2048;

/// The last so many are for short visits: they get little time and one request, so that probes
/// come through even when everything else is held by clients that do nothing.
const FOR_SHORT_VISITS: usize = 64;

/// Files that are open besides connections: model, runtime, log, devices.
const OTHER_FILES: u64 = 128;

/// Places for connections.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    all: usize,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Whether it is one of the last.
    pub(super) crowded: bool,
    /// How many were taken, with this one.
    pub(super) taken: usize,
}

impl Places {
    /// As many as the system's limit on open files leaves, which is raised as far as it goes.
    pub(super) fn new() -> Self {
        let places = within(MOST, open_files());
        if places < MOST {
            tracing::warn!(places, "the limit on open files leaves few connections");
        }
        Self::of(places)
    }

    fn of(all: usize) -> Self {
        let free = Arc::new(Semaphore::new(all));
        Self { free, all }
    }

    /// Waits for a place. Whoever comes meanwhile waits in the system's backlog.
    pub(super) async fn take(&self) -> Option<Place> {
        // The semaphore is never closed, so there always is one in the end.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let free = self.free.available_permits();
        Some(Place {
            _permit: permit,
            crowded: free < FOR_SHORT_VISITS,
            taken: self.all - free,
        })
    }
}

/// How many of `most` fit a limit on open files.
fn within(most: usize, files: Option<u64>) -> usize {
    let fit = files.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES));
    // Even a hopeless limit leaves room for a few at a time.
    usize::try_from(fit).unwrap_or(usize::MAX).clamp(16, most)
}

/// The limit on open files, after raising it as far as an ordinary process may; `None` where there
/// is no such limit.
#[cfg(unix)]
fn open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum,
        Err(_) => before,
    }
}

#[cfg(not(unix))]
fn open_files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(within(2048, None), 2048);
        assert_eq!(within(2048, Some(1 << 20)), 2048);
        assert_eq!(within(2048, Some(1024)), 1024 - 128);
        assert_eq!(within(2048, Some(64)), 16);
    }

    #[tokio::test]
    async fn the_last_places_are_for_short_visits() {
        let places = Places::of(FOR_SHORT_VISITS + 2);
        let first = places.take().await.unwrap();
        let second = places.take().await.unwrap();
        let third = places.take().await.unwrap();
        assert!(!first.crowded && !second.crowded && third.crowded);
        assert_eq!((first.taken, second.taken, third.taken), (1, 2, 3));
        drop((first, second));
        assert!(!places.take().await.unwrap().crowded);
    }
}
