//! How long something has lasted, for whoever gives up on what lasts too long.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Runs or stands still; one task at a time may wait for it.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    since: Mutex<Option<Instant>>,
    started: Notify,
}

impl Stopwatch {
    /// Runs from now on, also if it ran already.
    pub(super) fn restart(&self) {
        self.set(Some(Instant::now()));
        self.started.notify_one();
    }

    /// Stands still until it is started again.
    pub(super) fn stop(&self) {
        self.set(None);
    }

    /// Waits until it has run for so long without a break.
    pub(super) async fn reaches(&self, limit: Duration) {
        loop {
            let since = self.since();
            match since.map(|since| since.checked_add(limit)) {
                None => self.started.notified().await,
                // Beyond what the clock can say.
                Some(None) => std::future::pending().await,
                Some(Some(end)) => {
                    sleep_until(end).await;
                    if self.since() == since {
                        return;
                    }
                }
            }
        }
    }

    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_restart_begins_anew_and_a_stop_ends_nothing() {
        let watch = Stopwatch::default();
        assert!(timeout(10 * LIMIT, watch.reaches(LIMIT)).await.is_err());
        let began = Instant::now();
        watch.restart();
        let restarts = async {
            sleep(LIMIT / 2).await;
            watch.restart();
            sleep(LIMIT / 2).await;
            watch.stop();
            sleep(LIMIT).await;
            watch.restart();
        };
        tokio::join!(watch.reaches(LIMIT), restarts);
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_beyond_the_clock_is_never_reached() {
        let watch = Stopwatch::default();
        watch.restart();
        let waiting = watch.reaches(Duration::MAX);
        assert!(timeout(LIMIT, waiting).await.is_err());
    }
}
