//! Bounded pools of blocking threads: how much CPU work of one kind runs at a time.
//!
//! Each kind has slots of its own on tokio's blocking threads, so that no kind takes all processor
//! time or keeps another waiting. Rendering has fewer slots than there are cores, and waiting
//! requests are bounded in number and time; beyond that a map is rejected with 503. Bodies are
//! bounded by the memory for uploads and wait until their deadline.
//!
//! Decoding is none of these: it is admitted by the bytes that it holds and the deadlines that it
//! has to meet, not by a number of slots ([`decode_budget`](crate::decode_budget)).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task,
    time::{Instant, timeout_at},
};

use crate::{Error, Result, batch::Deadline};

/// How many may wait for each slot for rendering.
const MAX_WAITING_PER_SLOT: usize = 64;

/// `Retry-After` of a rejected request: long after the next map is rendered.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Slots for one kind of work. A handle; clones share them.
#[derive(Clone, Debug)]
pub(super) struct BlockingPool {
    /// The kind of work, for the log.
    what: &'static str,
    slots: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
}

/// The pool for rendering maps.
#[derive(Clone, Debug)]
pub struct RenderPool {
    pool: BlockingPool,
    max_wait: Duration,
}

/// The pool for parsing and writing bodies.
#[derive(Clone, Debug)]
pub(super) struct BodyPool(BlockingPool);

impl BlockingPool {
    fn new(what: &'static str, slots: usize, max_waiting: usize) -> Self {
        Self {
            what,
            slots: Arc::new(Semaphore::new(slots.max(1))),
            waiting: Arc::default(),
            max_waiting,
        }
    }

    /// Runs the work on a blocking thread, in the current span, once a slot is free. Work that has
    /// started is finished, and keeps its slot, also when its request is dropped.
    ///
    /// # Errors
    /// `rejected` when too many wait, or until `end`; [`Error::Internal`] when the work panics.
    async fn run<T: Send + 'static>(
        &self,
        end: Instant,
        rejected: impl Fn() -> Error,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let slot = {
            let _waiting = self.enqueue().ok_or_else(&rejected)?;
            let slot = Arc::clone(&self.slots).acquire_owned();
            timeout_at(end, slot)
                .await
                .map_err(|_| rejected())?
                // Never closed.
                .map_err(|_| Error::Internal)?
        };
        let span = tracing::Span::current();
        let result = task::spawn_blocking(move || {
            let _slot = slot;
            span.in_scope(work)
        });
        result.await.map_err(|error| {
            tracing::error!(%error, "{} panicked", self.what);
            Error::Internal
        })
    }

    fn enqueue(&self) -> Option<WaitingGuard> {
        let waiting = WaitingGuard(Arc::clone(&self.waiting));
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.max_waiting).then_some(waiting)
    }
}

impl RenderPool {
    /// One slot for every two compute threads, at least one. No request waits longer than
    /// `max_wait`.
    pub fn new(threads: usize, max_wait: Duration) -> Self {
        let slots = (threads / 2).max(1);
        Self {
            pool: BlockingPool::new("rendering a map", slots, slots * MAX_WAITING_PER_SLOT),
            max_wait,
        }
    }

    /// Runs the work once a slot is free, and to its end.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when too many wait, or for too long; [`Error::Internal`] when the work
    /// panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let rejected = || Error::Overloaded {
            retry_after: RETRY_AFTER,
        };
        let end = Instant::now() + self.max_wait;
        self.pool.run(end, rejected, work).await
    }
}

impl BodyPool {
    /// One slot for every compute thread, at least one.
    pub(super) fn new(threads: usize) -> Self {
        Self(BlockingPool::new("work on a body", threads, usize::MAX))
    }

    /// Runs the work once a slot is free, and to its end.
    ///
    /// # Errors
    /// That of the deadline; [`Error::Internal`] when the work panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let end = deadline.at().into();
        self.0.run(end, || deadline.error(), work).await
    }
}

/// Counts a waiting request while it lives.
struct WaitingGuard(Arc<AtomicUsize>);

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn no_more_maps_are_rendered_at_once_than_there_are_slots() {
        let pool = RenderPool::new(4, MAX_WAIT);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (pool, running, most) = (pool.clone(), running.clone(), most.clone());
                tokio::spawn(async move {
                    let work = move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(2));
                        running.fetch_sub(1, Ordering::SeqCst);
                    };
                    pool.run(work).await
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(pool.pool.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn while_every_slot_is_taken_other_blocking_work_goes_on() {
        let pool = RenderPool::new(2, MAX_WAIT);
        let (leave, allowed) = mpsc::channel::<()>();
        let first = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.run(move || allowed.recv().is_ok()).await })
        };
        let others: Vec<_> = (0..30)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.run(|| true).await })
            })
            .collect();
        while pool.pool.waiting.load(Ordering::SeqCst) < 30 {
            task::yield_now().await;
        }
        // What decodes an image.
        assert_eq!(task::spawn_blocking(|| 42).await.unwrap(), 42);
        assert!(others.iter().all(|other| !other.is_finished()));
        leave.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_render_that_waits_too_long_or_behind_too_many_is_refused() {
        let pool = RenderPool::new(1, MAX_WAIT);
        let _taken = pool.pool.slots.acquire().await.unwrap();
        let before = Instant::now();
        let refused = pool.run(|| ()).await;
        assert!(matches!(refused, Err(Error::Overloaded { .. })));
        assert_eq!(before.elapsed(), MAX_WAIT);

        let crowd: Vec<_> = (0..MAX_WAITING_PER_SLOT)
            .map(|_| pool.pool.enqueue())
            .collect();
        assert!(crowd.iter().all(Option::is_some));
        let before = Instant::now();
        assert!(matches!(
            pool.run(|| ()).await,
            Err(Error::Overloaded { .. })
        ));
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_panic_while_rendering_frees_its_slot() {
        let pool = RenderPool::new(1, MAX_WAIT);
        let panicked = pool.run(|| panic!("asked for")).await;
        assert_eq!(panicked, Err::<(), _>(Error::Internal));
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn work_on_a_body_waits_for_its_deadline_and_no_longer() {
        let pool = BodyPool::new(0);
        let taken = pool.0.slots.acquire().await.unwrap();
        let deadline = Deadline::after(Duration::from_secs(3));
        let refused = pool.run(deadline, || ()).await;
        assert!(matches!(refused, Err(Error::DeadlinePassed { .. })));
        drop(taken);
        assert_eq!(pool.run(deadline, || 1).await, Ok(1));
    }
}
