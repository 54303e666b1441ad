//! Metrics of the result cache.

use prometheus::{IntCounterVec, IntGauge, Result};

use super::catalogue::MetricBuilder;

/// How the result cache answered a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CacheOutcome {
    /// It was kept.
    Hit,
    /// It was computed for this request.
    Miss,
    /// It was being computed for an identical one.
    Joined,
}

impl CacheOutcome {
    const ALL: [Self; 3] = [Self::Hit, Self::Miss, Self::Joined];

    fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Joined => "joined",
        }
    }
}

#[derive(Debug)]
pub(super) struct ResultCacheMetrics {
    requests: IntCounterVec,
    bytes: IntGauge,
}

impl ResultCacheMetrics {
    pub(super) fn new(builder: &mut MetricBuilder) -> Result<Self> {
        let requests = builder.counters(
            "result_cache_total",
            "Images by how their result was come by: hit, miss, joined; all 0 without `--result-cache`.",
            &["outcome"],
        )?;
        // They exist from the start, so that a rate has a zero to start from.
        for reuse in CacheOutcome::ALL {
            requests.with_label_values(&[reuse.name()]);
        }
        Ok(Self {
            requests,
            bytes: builder.count("result_cache_bytes", "Bytes of results that are kept.")?,
        })
    }

    pub(super) fn count(&self, how: CacheOutcome) {
        self.requests.with_label_values(&[how.name()]).inc();
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
