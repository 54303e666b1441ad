//! What a run says at its end, as text and as JSON.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    Result,
    args::{Args, Target},
    arrivals::Arrivals,
    batch_sizes::BatchSizes,
    tally::Tally,
};

#[derive(Serialize)]
pub(crate) struct Report {
    url: String,
    load: Load,
    elapsed_s: f64,
    /// Answers with success a second.
    throughput: f64,
    /// Of answers with success, from the time they were due.
    latency_ms: Latency,
    /// Of answers without success.
    refused_ms: Latency,
    /// From due to sent. In an open loop a large value says that the requests did not fit
    /// in `--max-in-flight`, or that this tool ran short of processor time.
    late_ms: Latency,
    /// Requests by status, or by what failed.
    outcomes: BTreeMap<String, u64>,
    batch_sizes: Option<BatchSizes>,
    /// Why there are no batch sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_sizes_missing: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase", tag = "loop")]
enum Load {
    Closed {
        clients: u32,
    },
    Open {
        rate: f64,
        arrivals: Arrivals,
        seed: u64,
    },
}

#[derive(Serialize)]
struct Latency {
    count: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Report {
    pub(crate) fn new(
        args: &Args,
        target: &Target,
        tally: &Tally,
        batches: Result<BatchSizes>,
    ) -> Self {
        let load = match args.rate {
            Some(rate) => Load::Open {
                rate,
                arrivals: args.arrivals,
                seed: args.seed,
            },
            None => Load::Closed {
                clients: args.clients.unwrap_or(1),
            },
        };
        let elapsed_s = tally.elapsed.as_secs_f64();
        let (batch_sizes, batch_sizes_missing) = match batches {
            Ok(sizes) => (Some(sizes), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            url: target.url.to_string(),
            load,
            elapsed_s,
            throughput: if elapsed_s > 0.0 {
                tally.succeeded.len() as f64 / elapsed_s
            } else {
                0.0
            },
            latency_ms: Latency::of(&tally.succeeded),
            refused_ms: Latency::of(&tally.refused),
            late_ms: Latency::of(&tally.late),
            outcomes: tally
                .outcomes
                .iter()
                .map(|(outcome, n)| (outcome.to_string(), *n))
                .collect(),
            batch_sizes,
            batch_sizes_missing,
        }
    }

    pub(crate) fn answered_ok(&self) -> u64 {
        self.latency_ms.count
    }
}

impl Latency {
    fn of(micros: &Histogram<u64>) -> Self {
        let ms = |quantile| micros.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: micros.len(),
            mean: micros.mean() / 1000.0,
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            max: micros.max() as f64 / 1000.0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.load {
            Load::Closed { clients } => {
                writeln!(f, "closed loop, {clients} clients, {}", self.url)?
            }
            Load::Open { rate, arrivals, .. } => {
                writeln!(
                    f,
                    "open loop, {rate}/s ({arrivals:?} arrivals), {}",
                    self.url
                )?;
            }
        }
        writeln!(
            f,
            "throughput   {:.1}/s answered with success over {:.1} s",
            self.throughput, self.elapsed_s
        )?;
        writeln!(f, "latency      {}", self.latency_ms)?;
        if self.refused_ms.count > 0 {
            writeln!(f, "refusals     {}", self.refused_ms)?;
        }
        if matches!(self.load, Load::Open { .. }) {
            writeln!(f, "sent late    {}", self.late_ms)?;
        }
        let outcomes: Vec<_> = self
            .outcomes
            .iter()
            .map(|(outcome, n)| format!("{outcome}: {n}"))
            .collect();
        writeln!(f, "outcomes     {}", outcomes.join(", "))?;
        match (&self.batch_sizes, &self.batch_sizes_missing) {
            (Some(sizes), _) => writeln!(f, "batches      {sizes}"),
            (None, error) => writeln!(
                f,
                "batches      unknown: {}",
                error.as_deref().unwrap_or_default()
            ),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("no answer");
        }
        let Self {
            p50, p90, p99, max, ..
        } = self;
        write!(
            f,
            "p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"
        )
    }
}

impl fmt::Display for BatchSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:.2} images on average", self.batches, self.mean)?;
        for (bound, n) in &self.up_to {
            write!(f, ", ≤{bound}: {n}")?;
        }
        Ok(())
    }
}
