//! The batch sizes that the server ran, from its `/metrics` before and after.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Result;

const NAME: &str = "patchlight_batch_size";

/// A Prometheus histogram, summed over its label sets.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Cumulative, in order of their upper bound.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

/// What was run between two scrapes.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct BatchSizes {
    pub(crate) batches: u64,
    /// Images a batch.
    pub(crate) mean: f64,
    /// Batches by the upper bound of their bucket; empty buckets are left out.
    pub(crate) up_to: BTreeMap<String, u64>,
}

impl Histogram {
    /// Finds the histogram in the Prometheus text format.
    ///
    /// # Errors
    /// When it is not there, or one of its lines is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut found = Self::default();
        let samples = text
            .lines()
            .filter_map(|line| Some((line, line.strip_prefix(NAME)?)));
        for (line, rest) in samples {
            let malformed = || format!("/metrics: not understood: {line}");
            let (kind, labels, value) = split(rest).ok_or_else(malformed)?;
            let value: f64 = value.parse().map_err(|_| malformed())?;
            match kind {
                "_sum" => found.sum += value,
                "_count" => found.count += value,
                "_bucket" => {
                    let bound = upper_bound(labels).ok_or_else(malformed)?;
                    found.add(bound, value);
                }
                // Another metric whose name begins like this one.
                _ => {}
            }
        }
        if found.buckets.is_empty() {
            return Err(format!("/metrics holds no histogram {NAME}").into());
        }
        found.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(found)
    }

    /// What was added from one scrape to the next.
    ///
    /// # Errors
    /// When the histograms have different buckets, or the counters went back: another server, or
    /// the same one started again.
    pub(crate) fn delta(before: &Self, after: &Self) -> Result<BatchSizes> {
        let same = before
            .buckets
            .iter()
            .map(|b| b.0)
            .eq(after.buckets.iter().map(|b| b.0));
        let grew = before
            .buckets
            .iter()
            .zip(&after.buckets)
            .all(|(b, a)| a.1 >= b.1);
        if !same || !grew {
            return Err(
                "the server was restarted during the run: its batch counters went back".into(),
            );
        }
        let batches = after.count - before.count;
        let mut up_to = BTreeMap::new();
        let mut below = 0.0;
        for (before, after) in before.buckets.iter().zip(&after.buckets) {
            let cumulative = after.1 - before.1;
            if cumulative > below {
                up_to.insert(after.0.to_string(), (cumulative - below) as u64);
            }
            below = cumulative;
        }
        let mean = if batches > 0.0 {
            (after.sum - before.sum) / batches
        } else {
            0.0
        };
        Ok(BatchSizes {
            batches: batches as u64,
            mean,
            up_to,
        })
    }

    fn add(&mut self, bound: f64, value: f64) {
        match self.buckets.iter_mut().find(|bucket| bucket.0 == bound) {
            Some(bucket) => bucket.1 += value,
            None => self.buckets.push((bound, value)),
        }
    }
}

/// `_bucket{le="1"} 4` → (`_bucket`, `le="1"`, `4`).
fn split(rest: &str) -> Option<(&str, &str, &str)> {
    let (name, value) = rest.rsplit_once(' ')?;
    match name.split_once('{') {
        Some((kind, labels)) => Some((kind, labels.strip_suffix('}')?, value)),
        None => Some((name, "", value)),
    }
}

fn upper_bound(labels: &str) -> Option<f64> {
    let bound = labels
        .split(',')
        .find_map(|label| label.strip_prefix("le=\"")?.strip_suffix('"'))?;
    // Rust reads "+Inf" as Prometheus writes it.
    bound.parse().ok()
}

#[cfg(test)]
mod tests;
