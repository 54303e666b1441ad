//! The perturbation test of one kept map, on demand: does this answer hang on these patches?
//!
//! ```text
//!  POST ──► table ──► waits for its turn ──► decode the kept picture ──► plan of pictures
//!            ▲                                                               │ in the background
//!            └──── done: curves and areas  ◄── outcome ◄── scores ◄── batcher ┘
//! ```
//!
//! A test costs some fifty forward passes ([`perturb`](crate::perturb)) and nobody may suffer for
//! it: it runs as a job, one at a time, its pictures go through the batcher with low priority, and
//! the number of jobs is bounded, for each owner too. A job holds the map and the kept picture, a
//! result is a few kilobytes. When its model is replaced or the process ends, it is called off.

mod job;
mod report;
mod table;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

pub use self::{
    job::Subject,
    report::{Report, Status},
    table::{Key, TableLimits},
};
use self::{
    report::Progress,
    table::{Begun, Busy, Table},
};
use crate::{Error, Result, batch::Deadline, metrics::Metrics};

/// How long a job may take from its turn on. With low priority it may get nothing for long.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a job fails with, and a request for one is refused with, without the model that made the map.
pub const NOT_SERVED: Error = Error::NotVerifiable(
    "the model that made this map is not served here any more; classify the picture again and test \
     that map",
);

/// When a refused client may come back: about the time of a job on a CPU.
const COME_BACK: Duration = Duration::from_secs(10);

/// All jobs of the process. A handle; clones share them.
#[derive(Clone, Debug)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    turn: Semaphore,
    metrics: Arc<Metrics>,
}

impl Jobs {
    /// No job yet.
    pub fn new(limits: TableLimits, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            table: Mutex::new(Table::new(limits)),
            turn: Semaphore::new(1),
            metrics,
        }))
    }

    /// Starts a job for this map unless there is one that has not failed, and says how it stands.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when as many jobs as may are under way, [`Error::TooManyJobs`] when as
    /// many of this owner's are.
    pub fn start(&self, key: Key, subject: Subject) -> Result<Status> {
        let mut table = self.0.lock();
        let (number, progress) = match table.begin(&key, Instant::now()) {
            Ok(Begun::Known(status)) => return Ok(status),
            Ok(Begun::New(number, progress)) => (number, progress),
            Err(busy) => {
                self.0.metrics.verify_ended("refused");
                return Err(match busy {
                    Busy::All => Error::Overloaded {
                        retry_after: COME_BACK,
                    },
                    Busy::Owner => Error::TooManyJobs {
                        retry_after: COME_BACK,
                    },
                });
            }
        };
        let ending = Ending {
            inner: Arc::clone(&self.0),
            key: key.clone(),
            number,
            outcome: Err(Error::Internal),
        };
        let task = tokio::spawn(work(ending, subject, progress));
        table.attach(&key, number, task.abort_handle());
        self.0.count(&table);
        // There is one: it was just made.
        table.status(&key).ok_or(Error::Internal)
    }

    /// How the job for this map stands; `None` without one.
    pub fn status(&self, key: &Key) -> Option<Status> {
        self.0.lock().status(key)
    }

    /// Calls the job off or forgets its result; whether there was one.
    pub fn cancel(&self, key: &Key) -> bool {
        let mut table = self.0.lock();
        let Some(was_active) = table.remove(key) else {
            return false;
        };
        if was_active {
            self.0.metrics.verify_ended("cancelled");
        }
        self.0.count(&table);
        true
    }
}

impl Inner {
    /// Nothing that holds this lock leaves the table half changed.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, table: &Table) {
        let (waiting, running) = table.active();
        self.metrics.verify_jobs(waiting, running);
    }
}

/// Does the job unless its model is replaced meanwhile, whether it waits for its turn or runs: the
/// model and what the job has in its queue are let go of then, and only a batch that runs ends first.
async fn work(mut ending: Ending, subject: Subject, progress: Arc<Progress>) {
    let retired = subject.classifier.batcher.retired();
    let test = test(&ending, subject, &progress);
    let outcome = retired.run_until_cancelled(test).await;
    ending.outcome = outcome.unwrap_or(Err(NOT_SERVED));
}

/// Waits for the job's turn and does it.
async fn test(ending: &Ending, subject: Subject, progress: &Progress) -> Result<Report> {
    let inner = &ending.inner;
    // Never closed.
    let turn = inner.turn.acquire().await;
    let _turn = turn.map_err(|_| Error::Internal)?;
    {
        let mut table = inner.lock();
        table.run(&ending.key, ending.number);
        inner.count(&table);
    }
    job::run(&subject, progress, Deadline::after(PATIENCE)).await
}

/// Writes a job's outcome down however it ends, by a panic too. A job that was called off is no
/// longer in the table.
struct Ending {
    inner: Arc<Inner>,
    key: Key,
    number: u64,
    outcome: Result<Report>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(Error::Internal));
        let word = match &outcome {
            Ok(_) => "done",
            Err(why) if *why == NOT_SERVED => "cancelled",
            Err(_) => "failed",
        };
        let mut table = self.inner.lock();
        if table.finish(&self.key, self.number, outcome, Instant::now()) {
            self.inner.metrics.verify_ended(word);
        }
        self.inner.count(&table);
    }
}
