//! The table of jobs and its limits: rules apart from clocks and tasks.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::{
    Report, Status,
    report::{JobState, Progress},
};
use crate::{Result, store::Owner};

/// The map that a job is about. Ids are secrets, hence no `Debug` of them.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct JobKey {
    owner: Owner,
    id: String,
}

impl JobKey {
    /// The map of this id, which is this owner's.
    pub fn new(owner: Owner, id: &str) -> Self {
        Self {
            owner,
            id: id.to_owned(),
        }
    }
}

impl std::fmt::Debug for JobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// How many jobs there may be.
#[derive(Clone, Copy, Debug)]
pub struct JobLimits {
    /// Under way, all together: waiting for their turn or running.
    pub active: usize,
    /// Under way for one API key. Without keys all clients are one.
    pub active_per_owner: usize,
    /// Results that are kept.
    pub finished: usize,
    /// How long they are kept at the longest.
    pub ttl: Duration,
}

impl JobLimits {
    /// The limits for results that live as long as their maps.
    pub fn new(ttl: Duration) -> Self {
        Self {
            active: 16,
            active_per_owner: 4,
            finished: 256,
            ttl,
        }
    }
}

/// The result of asking for a job.
#[derive(Debug)]
pub(super) enum StartOutcome {
    /// It is new and has this number.
    New(u64, Arc<Progress>),
    /// There was one.
    Existing(Status),
}

/// Why there is no new job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Busy {
    /// The limit of all jobs is reached.
    All,
    /// The limit of this owner is reached.
    Owner,
}

#[derive(Debug)]
pub(super) struct JobTable {
    limits: JobLimits,
    jobs: HashMap<JobKey, Job>,
    next: u64,
}

#[derive(Debug)]
struct Job {
    number: u64,
    state: JobState,
    progress: Arc<Progress>,
    task: Option<AbortHandle>,
    ended: Option<Instant>,
}

impl Job {
    fn is_active(&self) -> bool {
        matches!(self.state, JobState::Waiting | JobState::Running)
    }

    fn status(&self) -> Status {
        Status::new(&self.state, &self.progress)
    }
}

impl JobTable {
    pub(super) fn new(limits: JobLimits) -> Self {
        Self {
            limits,
            jobs: HashMap::new(),
            next: 0,
        }
    }

    /// Adds a job, unless there is one that waits, runs or has a result.
    pub(super) fn begin(
        &mut self,
        key: &JobKey,
        now: Instant,
    ) -> std::result::Result<StartOutcome, Busy> {
        self.remove_old(now);
        if let Some(job) = self.jobs.get(key)
            && !matches!(job.state, JobState::Failed(_))
        {
            return Ok(StartOutcome::Existing(job.status()));
        }
        let active = || self.jobs.iter().filter(|(_, job)| job.is_active());
        if active().count() >= self.limits.active {
            return Err(Busy::All);
        }
        let of_owner = active().filter(|(other, _)| other.owner == key.owner);
        if of_owner.count() >= self.limits.active_per_owner {
            return Err(Busy::Owner);
        }
        let number = self.next;
        self.next += 1;
        let progress = Arc::new(Progress::default());
        self.jobs.insert(
            key.clone(),
            Job {
                number,
                state: JobState::Waiting,
                progress: Arc::clone(&progress),
                task: None,
                ended: None,
            },
        );
        Ok(StartOutcome::New(number, progress))
    }

    /// Remembers how to cancel the job.
    pub(super) fn attach(&mut self, key: &JobKey, number: u64, task: AbortHandle) {
        if let Some(job) = self.job(key, number) {
            job.task = Some(task);
        }
    }

    /// The job has a slot.
    pub(super) fn run(&mut self, key: &JobKey, number: u64) {
        if let Some(job) = self.job(key, number) {
            job.state = JobState::Running;
        }
    }

    /// The job has ended; whether it was still in the table.
    pub(super) fn finish(
        &mut self,
        key: &JobKey,
        number: u64,
        outcome: Result<Report>,
        now: Instant,
    ) -> bool {
        let Some(job) = self.job(key, number) else {
            return false;
        };
        job.state = match outcome {
            Ok(report) => JobState::Done(Arc::new(report)),
            Err(error) => JobState::Failed(error),
        };
        job.ended = Some(now);
        self.remove_old(now);
        true
    }

    pub(super) fn status(&self, key: &JobKey) -> Option<Status> {
        self.jobs.get(key).map(Job::status)
    }

    /// Takes a job out and stops it; whether it was under way, `None` without one.
    pub(super) fn remove(&mut self, key: &JobKey) -> Option<bool> {
        let job = self.jobs.remove(key)?;
        if let Some(task) = &job.task {
            task.abort();
        }
        Some(job.is_active())
    }

    /// How many wait, and how many run.
    pub(super) fn active(&self) -> (usize, usize) {
        let count = |state: fn(&JobState) -> bool| {
            self.jobs.values().filter(|job| state(&job.state)).count()
        };
        (
            count(|state| matches!(state, JobState::Waiting)),
            count(|state| matches!(state, JobState::Running)),
        )
    }

    fn job(&mut self, key: &JobKey, number: u64) -> Option<&mut Job> {
        self.jobs.get_mut(key).filter(|job| job.number == number)
    }

    /// Removes expired results, and beyond the limit the oldest.
    fn remove_old(&mut self, now: Instant) {
        let ttl = self.limits.ttl;
        let expired = |ended: Instant| now.saturating_duration_since(ended) >= ttl;
        self.jobs.retain(|_, job| !job.ended.is_some_and(expired));
        let mut ended: Vec<(Instant, u64)> = self
            .jobs
            .values()
            .filter_map(|job| Some((job.ended?, job.number)))
            .collect();
        let Some(surplus) = ended.len().checked_sub(self.limits.finished + 1) else {
            return;
        };
        ended.sort_unstable();
        let last = ended[surplus];
        self.jobs
            .retain(|_, job| job.ended.is_none_or(|at| (at, job.number) > last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn table() -> JobTable {
        JobTable::new(JobLimits {
            active: 3,
            active_per_owner: 2,
            finished: 2,
            ttl: Duration::from_secs(60),
        })
    }

    fn key(owner: u64, id: &str) -> JobKey {
        JobKey::new(Owner::of_key(owner), id)
    }

    fn begin(table: &mut JobTable, key: &JobKey, now: Instant) -> u64 {
        match table.begin(key, now).unwrap() {
            StartOutcome::New(number, _) => number,
            StartOutcome::Existing(status) => panic!("{status:?}"),
        }
    }

    #[test]
    fn a_map_has_one_job_and_a_failed_one_may_be_tried_again() {
        let (mut table, now) = (table(), Instant::now());
        let key = key(1, "a");
        let number = begin(&mut table, &key, now);
        assert!(matches!(
            table.begin(&key, now),
            Ok(StartOutcome::Existing(_))
        ));
        table.run(&key, number);
        assert_eq!(table.active(), (0, 1));
        assert!(table.finish(&key, number, Err(Error::Inference), now));
        assert_eq!(table.active(), (0, 0));
        assert_ne!(begin(&mut table, &key, now), number);
    }

    #[test]
    fn jobs_are_bounded_all_together_and_for_each_owner() {
        let (mut table, now) = (table(), Instant::now());
        begin(&mut table, &key(1, "a"), now);
        begin(&mut table, &key(1, "b"), now);
        assert_eq!(table.begin(&key(1, "c"), now).unwrap_err(), Busy::Owner);
        begin(&mut table, &key(2, "a"), now);
        assert_eq!(table.begin(&key(3, "a"), now).unwrap_err(), Busy::All);
        assert_eq!(table.remove(&key(1, "a")), Some(true));
        begin(&mut table, &key(3, "a"), now);
    }

    #[test]
    fn what_was_called_off_cannot_end_the_job_that_came_after_it() {
        let (mut table, now) = (table(), Instant::now());
        let key = key(1, "a");
        let first = begin(&mut table, &key, now);
        table.remove(&key);
        let second = begin(&mut table, &key, now);
        assert!(!table.finish(&key, first, Err(Error::Internal), now));
        assert!(table.finish(&key, second, Err(Error::Internal), now));
        assert_eq!(table.remove(&key), Some(false));
        assert_eq!(table.remove(&key), None);
    }

    #[test]
    fn the_oldest_results_go_first_and_all_in_time() {
        let (mut table, start) = (table(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, id) in (0..).zip(["a", "b", "c"]) {
            let number = begin(&mut table, &key(1, id), at(second));
            table.finish(&key(1, id), number, Err(Error::Inference), at(second));
        }
        assert!(table.status(&key(1, "a")).is_none());
        assert!(table.status(&key(1, "b")).is_some() && table.status(&key(1, "c")).is_some());
        begin(&mut table, &key(2, "d"), at(61));
        assert!(table.status(&key(1, "b")).is_none() && table.status(&key(1, "c")).is_some());
    }
}
