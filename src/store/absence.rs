//! Whether to try a server that may be away.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// After a failure nobody tries for a while; then one tries for all. So a server that swallows
/// requests costs one of them its patience, now and then, and not every one.
#[derive(Debug, Default)]
pub(super) struct Absence(Mutex<Option<Instant>>);

impl Absence {
    /// Between two tries while the server is away; also what clients are told to wait.
    pub(super) const PAUSE: Duration = Duration::from_secs(1);

    /// Whether to try at `now`. While the server is away, the answer is yes once in a
    /// [`PAUSE`](Self::PAUSE).
    pub(super) fn try_at(&self, now: Instant) -> bool {
        let mut next = self.next();
        match *next {
            Some(at) if now < at => false,
            Some(_) => {
                *next = Some(now + Self::PAUSE);
                true
            }
            None => true,
        }
    }

    /// A try failed at `now`; whether that is news.
    pub(super) fn failed(&self, now: Instant) -> bool {
        self.next().replace(now + Self::PAUSE).is_none()
    }

    /// A try worked; whether that is news.
    pub(super) fn worked(&self) -> bool {
        self.next().take().is_some()
    }

    /// When to try next, if the server is away.
    fn next(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_works_is_always_tried() {
        let absence = Absence::default();
        let now = Instant::now();
        assert!(absence.try_at(now) && absence.try_at(now));
        assert!(!absence.worked());
    }

    #[test]
    fn one_tries_for_all_after_each_pause() {
        let absence = Absence::default();
        let start = Instant::now();
        assert!(absence.failed(start));
        assert!(!absence.failed(start));
        assert!(!absence.try_at(start));
        let later = start + Absence::PAUSE;
        assert!(absence.try_at(later));
        assert!(!absence.try_at(later));
        assert!(absence.try_at(later + Absence::PAUSE));
    }

    #[test]
    fn one_success_opens_the_way_for_all() {
        let absence = Absence::default();
        let now = Instant::now();
        absence.failed(now);
        assert!(absence.worked());
        assert!(absence.try_at(now) && absence.try_at(now));
    }
}
