//! Perturbation tests of kept maps.

use prometheus::{IntCounterVec, IntGaugeVec, Result};

use super::catalogue::MetricBuilder;

#[derive(Debug)]
pub(super) struct VerifyMetrics {
    under_way: IntGaugeVec,
    ended: IntCounterVec,
}

impl VerifyMetrics {
    pub(super) fn new(builder: &mut MetricBuilder) -> Result<Self> {
        let under_way = builder.counts(
            "verify_jobs",
            "Perturbation tests of kept maps that are under way, by state: waiting, running.",
            &["state"],
        )?;
        let ended = builder.counters(
            "verify_jobs_total",
            "Perturbation tests that were asked for, by outcome: done, failed, cancelled, refused.",
            &["outcome"],
        )?;
        // They exist from the start, so that a rate has a zero to start from.
        for outcome in ["done", "failed", "cancelled", "refused"] {
            ended.with_label_values(&[outcome]);
        }
        let tests = Self { under_way, ended };
        tests.under_way(0, 0);
        Ok(tests)
    }

    pub(super) fn under_way(&self, waiting: usize, running: usize) {
        for (state, count) in [("waiting", waiting), ("running", running)] {
            self.under_way.with_label_values(&[state]).set(count as i64);
        }
    }

    pub(super) fn ended(&self, outcome: &'static str) {
        self.ended.with_label_values(&[outcome]).inc();
    }
}
