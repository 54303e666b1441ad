//! The statistics extension: what one name of a model has done since the program started.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::Serialize;
use utoipa::ToSchema;

/// How many times something happened and how long that took together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, ToSchema)]
pub struct Count {
    /// Times.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

impl Count {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.ns = self.ns.saturating_add(nanoseconds(took));
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// Batch and timing of one row of a request.
#[derive(Clone, Copy, Debug)]
pub struct RowStats {
    /// The batch it ran in; every batch of an engine has its own number.
    pub batch: u64,
    /// Rows in that batch, of all requests.
    pub batch_size: usize,
    /// Waiting for it.
    pub queued: Duration,
    /// Its run.
    pub ran: Duration,
}

/// Durations of one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestDurations {
    /// Reading its tensors, and decoding its images.
    pub input: Duration,
    /// Writing its outputs.
    pub output: Duration,
    /// From the complete body to the answer.
    pub total: Duration,
}

/// The counters of one name.
#[derive(Clone, Debug, Default)]
pub struct ModelStatistics {
    last_inference: u64,
    inference_count: u64,
    execution_count: u64,
    success: Count,
    fail: Count,
    queue: Count,
    input: Count,
    infer: Count,
    output: Count,
    by_size: BTreeMap<usize, Batches>,
    /// The last batches that were counted: several rows, also of several requests, share one.
    counted: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Batches {
    input: Count,
    infer: Count,
    output: Count,
}

/// More batches than can have run between the answers to two rows of one of them.
const MAX_REMEMBERED_BATCHES: usize = 256;

impl ModelStatistics {
    /// A request that was answered at `now`, milliseconds since 1970.
    pub fn succeeded(&mut self, rows: &[RowStats], took: RequestDurations, now: u64) {
        self.last_inference = self.last_inference.max(now);
        self.inference_count += rows.len() as u64;
        self.success.add(took.total);
        // A request waits and runs as long as the slowest of its rows.
        let slowest =
            |time: fn(&RowStats) -> Duration| rows.iter().map(time).max().unwrap_or_default();
        self.queue.add(slowest(|row| row.queued));
        self.infer.add(slowest(|row| row.ran));
        self.input.add(took.input);
        self.output.add(took.output);
        for row in rows {
            if self.counted.contains(&row.batch) {
                continue;
            }
            if self.counted.len() == MAX_REMEMBERED_BATCHES {
                self.counted.pop_front();
            }
            self.counted.push_back(row.batch);
            self.execution_count += 1;
            let batches = self.by_size.entry(row.batch_size).or_default();
            batches.infer.add(row.ran);
            batches.input.add(took.input);
            batches.output.add(took.output);
        }
    }

    /// A request that was refused or failed.
    pub fn failed(&mut self, total: Duration) {
        self.fail.add(total);
    }

    /// The entry of `model_stats`.
    pub fn describe(&self, name: String, version: &'static str) -> Described {
        let none = Count::default();
        Described {
            name,
            version,
            last_inference: self.last_inference,
            inference_count: self.inference_count,
            execution_count: self.execution_count,
            inference_stats: InferenceStats {
                success: self.success,
                fail: self.fail,
                queue: self.queue,
                compute_input: self.input,
                compute_infer: self.infer,
                compute_output: self.output,
                cache_hit: none,
                cache_miss: none,
            },
            batch_stats: self
                .by_size
                .iter()
                .map(|(&batch_size, batches)| BatchStats {
                    batch_size,
                    compute_input: batches.input,
                    compute_infer: batches.infer,
                    compute_output: batches.output,
                })
                .collect(),
        }
    }
}

/// What one name of a model has done since the program started.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ModelStatistics)]
pub struct Described {
    /// As clients call it.
    pub(super) name: String,
    pub(super) version: &'static str,
    /// Milliseconds since 1970; 0 before the first.
    pub(super) last_inference: u64,
    /// Rows that were run.
    pub(super) inference_count: u64,
    /// Batches in which they ran.
    pub(super) execution_count: u64,
    pub(super) inference_stats: InferenceStats,
    pub(super) batch_stats: Vec<BatchStats>,
}

/// How requests went.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct InferenceStats {
    pub(super) success: Count,
    pub(super) fail: Count,
    /// Waiting for a batch.
    pub(super) queue: Count,
    /// Reading tensors, and decoding images.
    pub(super) compute_input: Count,
    /// The runs of batches.
    pub(super) compute_infer: Count,
    /// Writing outputs.
    pub(super) compute_output: Count,
    /// Always 0, as the protocol's answers are not kept.
    pub(super) cache_hit: Count,
    /// As above.
    pub(super) cache_miss: Count,
}

/// How batches of one size went.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct BatchStats {
    pub(super) batch_size: usize,
    pub(super) compute_input: Count,
    pub(super) compute_infer: Count,
    pub(super) compute_output: Count,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn row_stats(batch: u64, batch_size: usize) -> RowStats {
        RowStats {
            batch,
            batch_size,
            queued: ms(1),
            ran: ms(10),
        }
    }

    const TOOK: RequestDurations = RequestDurations {
        input: ms(2),
        output: ms(3),
        total: ms(20),
    };

    #[test]
    fn rows_are_inferences_and_batches_are_executions() {
        let mut statistics = ModelStatistics::default();
        // Three rows in two batches; the second batch had a stranger in it.
        let rows = [row_stats(7, 2), row_stats(7, 2), row_stats(8, 2)];
        statistics.succeeded(&rows, TOOK, 1000);
        // A row that came late shares batch 8 with the request before.
        statistics.succeeded(&[row_stats(8, 2)], TOOK, 900);
        let described = serde_json::to_value(statistics.describe("vit".to_owned(), "1")).unwrap();
        assert_eq!(described["inference_count"], 4);
        assert_eq!(described["execution_count"], 2);
        assert_eq!(described["last_inference"], 1000);
        assert_eq!(
            described["inference_stats"]["success"],
            json!({"count": 2, "ns": 40_000_000})
        );
        assert_eq!(
            described["batch_stats"][0]["compute_infer"],
            json!({"count": 2, "ns": 20_000_000})
        );
        assert_eq!(described["batch_stats"][0]["batch_size"], 2);
    }

    #[test]
    fn failures_are_no_inferences() {
        let mut statistics = ModelStatistics::default();
        statistics.failed(ms(5));
        let described = serde_json::to_value(statistics.describe("vit".to_owned(), "1")).unwrap();
        assert_eq!(described["inference_count"], 0);
        assert_eq!(
            described["inference_stats"]["fail"],
            json!({"count": 1, "ns": 5_000_000})
        );
    }
}
