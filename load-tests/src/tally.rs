//! What became of the requests, and how long they took.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

use crate::Result;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    /// A whole answer with this status.
    Answer(u16),
    /// Refused, reset, or cut short.
    ConnectionFailed,
    /// No whole answer within the client's own time limit.
    TimedOut,
    /// Due, but no place on the way came free in time (open loop).
    NotSent,
}

impl Outcome {
    fn is_success(self) -> bool {
        matches!(self, Self::Answer(status) if (200..300).contains(&status))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(status) => write!(f, "{status}"),
            Self::ConnectionFailed => f.write_str("connection_failed"),
            Self::TimedOut => f.write_str("timed_out"),
            Self::NotSent => f.write_str("not_sent"),
        }
    }
}

/// One request: all times are counted from the start of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) outcome: Outcome,
    /// When it should have been sent.
    pub(crate) due: Duration,
    /// When it was sent.
    pub(crate) sent: Duration,
    /// When its answer was complete.
    pub(crate) done: Duration,
}

/// Everything that was recorded in one run.
pub(crate) struct Tally {
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
    /// Microseconds from due to done, of the successes.
    pub(crate) succeeded: Histogram<u64>,
    /// Microseconds from due to done, of the answers that refuse.
    pub(crate) refused: Histogram<u64>,
    /// Microseconds from due to sent: what the wait for a place, or this tool itself, added.
    pub(crate) late: Histogram<u64>,
    /// When the last answer was complete.
    pub(crate) elapsed: Duration,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        // One microsecond to an hour, to three digits.
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Ok(Self {
            outcomes: BTreeMap::new(),
            succeeded: histogram()?,
            refused: histogram()?,
            late: histogram()?,
            elapsed: Duration::ZERO,
        })
    }

    pub(crate) fn record(&mut self, sample: &Sample) {
        *self.outcomes.entry(sample.outcome).or_default() += 1;
        if sample.outcome == Outcome::NotSent {
            return;
        }
        self.elapsed = self.elapsed.max(sample.done);
        self.late
            .saturating_record(micros(sample.sent.saturating_sub(sample.due)));
        let latency = micros(sample.done.saturating_sub(sample.due));
        if sample.outcome.is_success() {
            self.succeeded.saturating_record(latency);
        } else if matches!(sample.outcome, Outcome::Answer(_)) {
            self.refused.saturating_record(latency);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
