//! The perturbation test of one stored map, on demand: does this answer depend on these patches?
//!
//! ```text
//!  POST ──► table ──► waits for its turn ──► decode the kept image ──► plan of images
//!            ▲                                                               │ in the background
//!            └──── done: curves and areas  ◄── outcome ◄── scores ◄── batcher ┘
//! ```
//!
//! A test costs some fifty forward passes ([`perturb`](crate::perturb)) and must not slow other
//! requests: it runs as a job, one at a time, its images go through the batcher with low priority,
//! and the number of jobs is bounded, for each owner too. A job holds the map and the kept image, a
//! result is a few kilobytes. When its model is replaced or the process ends, it is called off.

mod job;
mod job_table;
mod report;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

pub use self::{
    job::Subject,
    job_table::{JobKey, JobLimits},
    report::{Report, Status},
};
use self::{
    job_table::{Busy, JobTable, StartOutcome},
    report::Progress,
};
use crate::{Error, Result, batch::Deadline, metrics::Metrics};

/// How long a job may run once it has a slot. With low priority it may wait long for the engine.
const JOB_TIMEOUT: Duration = Duration::from_secs(600);

/// What a job fails with, and a request for one is refused with, without the model that made the
/// map.
pub const NOT_SERVED: Error = Error::NotVerifiable(
    "the model that made this map is not served here any more; classify the image again and test \
     that map",
);

/// `Retry-After` of a rejected job: about the time of one on a CPU.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// All jobs of the process. A handle; clones share them.
#[derive(Clone, Debug)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<JobTable>,
    slot: Semaphore,
    metrics: Arc<Metrics>,
}

impl Jobs {
    /// No job yet.
    pub fn new(limits: JobLimits, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            table: Mutex::new(JobTable::new(limits)),
            slot: Semaphore::new(1),
            metrics,
        }))
    }

    /// Starts a job for this map unless there is one that has not failed, and says how it stands.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when as many jobs as may are under way, [`Error::TooManyJobs`] when as
    /// many of this owner's are.
    pub fn start(&self, key: JobKey, subject: Subject) -> Result<Status> {
        let mut table = self.0.lock();
        let (number, progress) = match table.begin(&key, Instant::now()) {
            Ok(StartOutcome::Existing(status)) => return Ok(status),
            Ok(StartOutcome::New(number, progress)) => (number, progress),
            Err(busy) => {
                self.0.metrics.verify_ended("refused");
                return Err(match busy {
                    Busy::All => Error::Overloaded {
                        retry_after: RETRY_AFTER,
                    },
                    Busy::Owner => Error::TooManyJobs {
                        retry_after: RETRY_AFTER,
                    },
                });
            }
        };
        let guard = CompletionGuard {
            inner: Arc::clone(&self.0),
            key: key.clone(),
            number,
            outcome: Err(Error::Internal),
        };
        let task = tokio::spawn(work(guard, subject, progress));
        table.attach(&key, number, task.abort_handle());
        self.0.count(&table);
        // There is one: it was just made.
        table.status(&key).ok_or(Error::Internal)
    }

    /// The status of the job for this map; `None` without one.
    pub fn status(&self, key: &JobKey) -> Option<Status> {
        self.0.lock().status(key)
    }

    /// Cancels the job or deletes its result; whether there was one.
    pub fn cancel(&self, key: &JobKey) -> bool {
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
    fn lock(&self) -> MutexGuard<'_, JobTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, table: &JobTable) {
        let (waiting, running) = table.active();
        self.metrics.verify_jobs(waiting, running);
    }
}

/// Does the job unless its model is replaced meanwhile, whether it waits for its turn or runs: the
/// model and what the job has in its queue are let go of then, and only a batch that runs ends
/// first.
async fn work(mut guard: CompletionGuard, subject: Subject, progress: Arc<Progress>) {
    let retired = subject.classifier.batcher.background_token();
    let test = test(&guard, subject, &progress);
    let outcome = retired.run_until_cancelled(test).await;
    guard.outcome = outcome.unwrap_or(Err(NOT_SERVED));
}

/// Waits for the job's turn and does it.
async fn test(guard: &CompletionGuard, subject: Subject, progress: &Progress) -> Result<Report> {
    let inner = &guard.inner;
    // Never closed.
    let slot = inner.slot.acquire().await;
    let _slot = slot.map_err(|_| Error::Internal)?;
    {
        let mut table = inner.lock();
        table.run(&guard.key, guard.number);
        inner.count(&table);
    }
    let deadline = Deadline::after(JOB_TIMEOUT);
    let request = subject.classifier.batcher.new_request(deadline);
    job::run(&subject, progress, request).await
}

/// Records a job's outcome however it ends, by a panic too. A cancelled job is no longer in the
/// table.
struct CompletionGuard {
    inner: Arc<Inner>,
    key: JobKey,
    number: u64,
    outcome: Result<Report>,
}

impl Drop for CompletionGuard {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(Error::Internal));
        let label = match &outcome {
            Ok(_) => "done",
            Err(error) if *error == NOT_SERVED => "cancelled",
            Err(_) => "failed",
        };
        let mut table = self.inner.lock();
        if table.finish(&self.key, self.number, outcome, Instant::now()) {
            self.inner.metrics.verify_ended(label);
        }
        self.inner.count(&table);
    }
}
