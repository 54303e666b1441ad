//! The limit on concurrent connections.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The maximum, where the system allows that many open files.
const MAX_CONNECTIONS: usize = 2048;

/// The last so many permits are reserved for probes: their connections get a short header timeout
/// and one request, so that health checks pass even when idle clients hold all others.
const PROBE_RESERVE: usize = 64;

/// Files that are open besides connections: model, runtime, log, devices.
const RESERVED_FILES: u64 = 128;

/// A semaphore over connections.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    all: usize,
}

/// The permit of one connection; released when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    /// Whether few permits were left.
    pub(super) near_limit: bool,
    /// How many were taken, with this one.
    pub(super) taken: usize,
}

impl ConnectionLimit {
    /// As many as the system's limit on open files leaves, which is raised as far as it goes.
    pub(super) fn new() -> Self {
        let connection_limit = fit_open_files(MAX_CONNECTIONS, raise_open_file_limit());
        if connection_limit < MAX_CONNECTIONS {
            tracing::warn!(
                connection_limit,
                "the limit on open files leaves few connections"
            );
        }
        Self::of(connection_limit)
    }

    fn of(all: usize) -> Self {
        let free = Arc::new(Semaphore::new(all));
        Self { free, all }
    }

    /// Waits for a permit. Meanwhile connections wait in the kernel's backlog.
    pub(super) async fn acquire(&self) -> Option<ConnectionPermit> {
        // The semaphore is never closed, so there always is one in the end.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let free = self.free.available_permits();
        Some(ConnectionPermit {
            _permit: permit,
            near_limit: free < PROBE_RESERVE,
            taken: self.all - free,
        })
    }
}

/// How many of `max` fit a limit on open files.
fn fit_open_files(max: usize, files: Option<u64>) -> usize {
    let fit = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVED_FILES));
    // Even a hopeless limit leaves room for a few at a time.
    usize::try_from(fit).unwrap_or(usize::MAX).clamp(16, max)
}

/// The limit on open files, after raising it as far as an ordinary process may; `None` where there
/// is no such limit.
#[cfg(unix)]
fn raise_open_file_limit() -> Option<u64> {
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
fn raise_open_file_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(fit_open_files(2048, None), 2048);
        assert_eq!(fit_open_files(2048, Some(1 << 20)), 2048);
        assert_eq!(fit_open_files(2048, Some(1024)), 1024 - 128);
        assert_eq!(fit_open_files(2048, Some(64)), 16);
    }

    #[tokio::test]
    async fn the_last_permits_are_reserved_for_probes() {
        let connection_limit = ConnectionLimit::of(PROBE_RESERVE + 2);
        let first = connection_limit.acquire().await.unwrap();
        let second = connection_limit.acquire().await.unwrap();
        let third = connection_limit.acquire().await.unwrap();
        assert!(!first.near_limit && !second.near_limit && third.near_limit);
        assert_eq!((first.taken, second.taken, third.taken), (1, 2, 3));
        drop((first, second));
        assert!(!connection_limit.acquire().await.unwrap().near_limit);
    }
}
