//! Metrics of the request log.

use prometheus::{IntCounterVec, Result};

use super::catalogue::MetricBuilder;

/// What became of an event of the request log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogOutcome {
    /// It was written, or its receiver took it.
    Written,
    /// The queue was full.
    Dropped,
    /// The file or the receiver did not take it.
    Failed,
}

impl LogOutcome {
    const ALL: [Self; 3] = [Self::Written, Self::Dropped, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug)]
pub(super) struct RequestLogMetrics {
    events: IntCounterVec,
}

impl RequestLogMetrics {
    pub(super) fn new(builder: &mut MetricBuilder) -> Result<Self> {
        let events = builder.counters(
            "request_log_events_total",
            "Events of the request log by outcome: written, dropped (the queue was full), failed (the file or the receiver did not take it); all 0 without `--request-log`.",
            &["outcome"],
        )?;
        // They exist from the start, so that a rate has a zero to start from.
        for outcome in LogOutcome::ALL {
            events.with_label_values(&[outcome.name()]);
        }
        Ok(Self { events })
    }

    pub(super) fn count(&self, outcome: LogOutcome, events: usize) {
        self.events
            .with_label_values(&[outcome.name()])
            .inc_by(events as u64);
    }
}
