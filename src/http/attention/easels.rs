//! Where maps are drawn: few at a time, however many are asked for.
//!
//! Drawing has places of its own, fewer than there are cores, so that a crowd that looks at maps
//! takes neither the decoder's turns nor all processor time from classification. Those who wait
//! are bounded in number and time; beyond that a map is refused and can be asked for again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, task, time::timeout};

use crate::{Error, Result};

/// How many may wait for each place.
const WAITING_EACH: usize = 64;

/// When a refused client may come back: long after the next map is drawn.
const COME_BACK: Duration = Duration::from_secs(1);

/// The places where maps are drawn. A handle; clones share them.
#[derive(Clone, Debug)]
pub struct Easels {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    patience: Duration,
}

impl Easels {
    /// One for every two threads that compute, at least one. Nobody waits longer than `patience`.
    pub fn new(threads: usize, patience: Duration) -> Self {
        let places = (threads / 2).max(1);
        Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: Arc::default(),
            most_waiting: places * WAITING_EACH,
            patience,
        }
    }

    /// Does the work on a blocking thread once there is a place. Work that has begun is finished,
    /// and keeps its place, also when nobody waits for it any more.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when too many wait, or for too long; [`Error::Internal`] when the work
    /// panics.
    pub(super) async fn draw<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let overloaded = || Error::Overloaded {
            retry_after: COME_BACK,
        };
        let place = {
            let _waiting = self.line_up().ok_or_else(overloaded)?;
            let place = Arc::clone(&self.places).acquire_owned();
            timeout(self.patience, place)
                .await
                .map_err(|_| overloaded())?
                // Never closed.
                .map_err(|_| Error::Internal)?
        };
        let drawn = task::spawn_blocking(move || {
            let drawn = work();
            drop(place);
            drawn
        });
        drawn.await.map_err(|why| {
            tracing::error!(%why, "drawing a map panicked");
            Error::Internal
        })
    }

    fn line_up(&self) -> Option<Waiting> {
        let waiting = Waiting(Arc::clone(&self.waiting));
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.most_waiting).then_some(waiting)
    }
}

/// Counts one who waits while it lives.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn never_are_more_maps_drawn_than_there_are_places() {
        let easels = Easels::new(4, PATIENCE);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (easels, running, most) = (easels.clone(), running.clone(), most.clone());
                tokio::spawn(async move {
                    let work = move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(2));
                        running.fetch_sub(1, Ordering::SeqCst);
                    };
                    easels.draw(work).await
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(easels.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn while_every_place_is_taken_other_blocking_work_goes_on() {
        let easels = Easels::new(2, PATIENCE);
        let (leave, allowed) = mpsc::channel::<()>();
        let first = {
            let easels = easels.clone();
            tokio::spawn(async move { easels.draw(move || allowed.recv().is_ok()).await })
        };
        let others: Vec<_> = (0..30)
            .map(|_| {
                let easels = easels.clone();
                tokio::spawn(async move { easels.draw(|| true).await })
            })
            .collect();
        while easels.waiting.load(Ordering::SeqCst) < 30 {
            task::yield_now().await;
        }
        // What decodes a picture.
        assert_eq!(task::spawn_blocking(|| 42).await.unwrap(), 42);
        assert!(others.iter().all(|other| !other.is_finished()));
        leave.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_behind_too_many_is_refused() {
        let easels = Easels::new(1, PATIENCE);
        let _taken = easels.places.acquire().await.unwrap();
        let before = tokio::time::Instant::now();
        let refused = easels.draw(|| ()).await;
        assert!(matches!(refused, Err(Error::Overloaded { .. })));
        assert_eq!(before.elapsed(), PATIENCE);

        let crowd: Vec<_> = (0..WAITING_EACH).map(|_| easels.line_up()).collect();
        assert!(crowd.iter().all(Option::is_some));
        let before = tokio::time::Instant::now();
        assert!(matches!(
            easels.draw(|| ()).await,
            Err(Error::Overloaded { .. })
        ));
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_panic_at_the_easel_frees_its_place() {
        let easels = Easels::new(1, PATIENCE);
        let panicked = easels.draw(|| panic!("asked for")).await;
        assert_eq!(panicked, Err::<(), _>(Error::Internal));
        assert_eq!(easels.draw(|| 1).await, Ok(1));
    }
}
