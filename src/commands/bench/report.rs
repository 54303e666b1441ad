//! What was measured, as a table or as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::{difference::Difference, inputs::DecodeTime, memory::Memory, timing::BatchTime};

/// What was measured.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) precision: String,
    pub(super) device: String,
    /// The rule that was asked for.
    pub(super) kernels: String,
    pub(super) sessions: usize,
    /// Of each session.
    pub(super) threads: usize,
    /// What an image is sent as: bytes where the graph normalises.
    pub(super) input: &'static str,
    pub(super) maps: bool,
    /// Seconds from opening the directory to the end of the first run.
    pub(super) ready_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decode: Option<DecodeTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) difference: Option<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Memory>,
    pub(super) batches: Vec<BatchTime>,
}

impl Report {
    /// To standard output.
    pub(super) fn write(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        let what = if self.maps {
            "with maps"
        } else {
            "logits alone"
        };
        writeln!(
            out,
            "{}, {}, on {}, sessions × threads {}×{}, {} images, {what}; ready after {:.2} s",
            self.model,
            self.precision,
            self.device,
            self.sessions,
            self.threads,
            self.input,
            self.ready_s
        )?;
        if let Some(decode) = &self.decode {
            writeln!(
                out,
                "an image takes {:.2} ms of one thread before the model",
                decode.total_ms()
            )?;
        }
        if let Some(difference) = &self.difference {
            writeln!(
                out,
                "largest difference from the CPU over {} images: score {:.1e}, rollout {:.1e}, attribution {:.1e}; same best class {}",
                difference.images,
                difference.score,
                difference.rollout,
                difference.attribution,
                difference.same_best_class
            )?;
        }
        if let Some(memory) = self.memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            writeln!(
                out,
                "MiB of memory: weights {:.0}, loaded {:.0}, peak {:.0}",
                mib(memory.weight_bytes),
                mib(memory.loaded_bytes),
                mib(memory.peak_bytes)
            )?;
        }
        writeln!(
            out,
            "{:>6} {:>10} {:>10} {:>10}",
            "batch", "median ms", "p95 ms", "images/s"
        )?;
        for time in &self.batches {
            writeln!(
                out,
                "{:>6} {:>10.2} {:>10.2} {:>10.1}",
                time.batch, time.median_ms, time.p95_ms, time.images_per_s
            )?;
        }
        Ok(())
    }
}
