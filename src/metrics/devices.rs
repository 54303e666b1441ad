//! What is known of the devices that compute: gauges that are filled when they are scraped.

use patchlight_engine::CardMemory;
use prometheus::{IntGaugeVec, Result};

use super::catalogue::MetricBuilder;

/// A device that a model is served on, as a scrape finds it.
#[derive(Clone, Debug)]
pub struct ServingDevice {
    /// Such as `cuda:0`.
    pub name: String,
    /// Whether it still serves.
    pub up: bool,
    /// The largest batch that it takes.
    pub batch_limit: usize,
    /// Of a card whose driver tells.
    pub memory: Option<CardMemory>,
}

/// The metrics of devices.
#[derive(Debug)]
pub(super) struct DeviceMetrics {
    up: IntGaugeVec,
    batch_limit: IntGaugeVec,
    memory_size: IntGaugeVec,
    memory_free: IntGaugeVec,
}

impl DeviceMetrics {
    pub(super) fn new(builder: &mut MetricBuilder) -> Result<Self> {
        Ok(Self {
            up: builder.counts(
                "device_up",
                "1 while a device serves a model, 0 once it failed for good and the others serve on.",
                &["model", "device"],
            )?,
            batch_limit: builder.counts(
                "batch_limit",
                "The largest batch that runs now: `--max-batch`, or less where a device had no memory for it.",
                &["model", "device"],
            )?,
            memory_size: builder.counts(
                "device_memory_size_bytes",
                "Memory of a card; missing on CPUs.",
                &["device"],
            )?,
            memory_free: builder.counts(
                "device_memory_free_bytes",
                "Memory of a card that no process holds; missing on CPUs.",
                &["device"],
            )?,
        })
    }

    /// Models by name with what serves each now. Not to be called by two at a time.
    pub(super) fn fill<'a>(&self, models: impl Iterator<Item = (&'a str, &'a [ServingDevice])>) {
        for gauges in [
            &self.up,
            &self.batch_limit,
            &self.memory_size,
            &self.memory_free,
        ] {
            gauges.reset();
        }
        for (model, devices) in models {
            for device in devices {
                let name = device.name.as_str();
                self.up
                    .with_label_values(&[model, name])
                    .set(i64::from(device.up));
                self.batch_limit
                    .with_label_values(&[model, name])
                    .set(device.batch_limit as i64);
                if let Some(CardMemory { free, total }) = device.memory {
                    let bytes = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
                    self.memory_size
                        .with_label_values(&[name])
                        .set(bytes(total));
                    self.memory_free.with_label_values(&[name]).set(bytes(free));
                }
            }
        }
    }
}
