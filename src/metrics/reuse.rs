//! How often a result was there already.

use prometheus::{IntCounterVec, IntGauge, Result};

use super::catalogue::Catalogue;

/// How a request came by its result, where results are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// It was kept.
    Hit,
    /// It was computed for this request.
    Miss,
    /// It was being computed for an identical one.
    Joined,
}

impl Reuse {
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
pub(super) struct Reuses {
    requests: IntCounterVec,
    bytes: IntGauge,
}

impl Reuses {
    pub(super) fn new(all: &mut Catalogue) -> Result<Self> {
        let requests = all.counters(
            "result_cache_total",
            "Pictures by how their result was come by: hit, miss, joined; all 0 without `--result-cache`.",
            &["outcome"],
        )?;
        // They exist from the start, so that a rate has a zero to start from.
        for reuse in Reuse::ALL {
            requests.with_label_values(&[reuse.name()]);
        }
        Ok(Self {
            requests,
            bytes: all.count("result_cache_bytes", "Bytes of results that are kept.")?,
        })
    }

    pub(super) fn count(&self, how: Reuse) {
        self.requests.with_label_values(&[how.name()]).inc();
    }

    pub(super) fn kept(&self, bytes: u64) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
