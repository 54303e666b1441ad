//! What is known of each model that is served: gauges that are filled when they are scraped, so
//! that a model that has gone leaves nothing behind.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::{catalogue::MetricBuilder, devices::ServingDevice};

/// A model that is served, as a scrape finds it.
#[derive(Clone, Debug)]
pub struct ModelState {
    /// What clients call it.
    pub name: String,
    /// Such as `ViT-L/16`.
    pub architecture: String,
    /// Of its weights.
    pub precision: String,
    /// The beginning of its digest.
    pub digest: String,
    /// What computes it.
    pub device: String,
    /// Each of them.
    pub devices: Vec<ServingDevice>,
    /// Inputs that wait.
    pub waiting: usize,
    /// Time until the answer to a new request would be ready.
    pub predicted_wait: Duration,
    /// Batch sizes that have run, and their seconds.
    pub batch_latencies: Vec<(usize, f64)>,
}

/// The metrics of all models together and of each.
#[derive(Debug)]
pub(super) struct ModelMetrics {
    queue_depth: IntGauge,
    predicted_wait: Gauge,
    images: IntCounterVec,
    unfamiliar: IntCounterVec,
    abstained: IntCounterVec,
    model_queue_depth: IntGaugeVec,
    model_predicted_wait: GaugeVec,
    batch_cost: GaugeVec,
    info: IntGaugeVec,
}

impl ModelMetrics {
    pub(super) fn new(builder: &mut MetricBuilder) -> Result<Self> {
        Ok(Self {
            queue_depth: builder.count("queue_depth", "Images that wait for a batch.")?,
            predicted_wait: builder.gauge(
                "predicted_wait_seconds",
                "Time until a new request's answer would be ready, from the busiest model.",
            )?,
            images: builder.counters(
                "pictures_total",
                "Images that a model has seen.",
                &["model"],
            )?,
            unfamiliar: builder.counters(
                "unfamiliar_pictures_total",
                "Images that are unlike those that a model was calibrated on.",
                &["model"],
            )?,
            abstained: builder.counters(
                "abstained_pictures_total",
                "Images whose answer was marked as one not to act on.",
                &["model"],
            )?,
            model_queue_depth: builder.counts(
                "model_queue_depth",
                "Images that wait for this model.",
                &["model"],
            )?,
            model_predicted_wait: builder.gauges(
                "model_predicted_wait_seconds",
                "Time until a new request's answer from this model would be ready.",
                &["model"],
            )?,
            batch_cost: builder.gauges(
                "batch_cost_seconds",
                "Learned time of a batch, by model and the number of images in it.",
                &["model", "size"],
            )?,
            info: builder.counts(
                "model_info",
                "1 for each model being served.",
                &["model", "architecture", "precision", "digest", "device"],
            )?,
        })
    }

    pub(super) fn count_image(&self, model: &str) {
        self.images.with_label_values(&[model]).inc();
    }

    pub(super) fn unfamiliar(&self, model: &str) {
        self.unfamiliar.with_label_values(&[model]).inc();
    }

    pub(super) fn abstained(&self, model: &str) {
        self.abstained.with_label_values(&[model]).inc();
    }

    pub(super) fn remove(&self, model: &str) {
        for counter in [&self.images, &self.unfamiliar, &self.abstained] {
            // Missing where it has seen no such image.
            let _ = counter.remove_label_values(&[model]);
        }
    }

    /// What is served now. Not to be called by two at a time.
    pub(super) fn fill(&self, models: &[ModelState]) {
        self.info.reset();
        self.batch_cost.reset();
        self.model_queue_depth.reset();
        self.model_predicted_wait.reset();
        for model in models {
            let name = model.name.as_str();
            self.info
                .with_label_values(&[
                    name,
                    &model.architecture,
                    &model.precision,
                    &model.digest,
                    &model.device,
                ])
                .set(1);
            for (size, seconds) in &model.batch_latencies {
                self.batch_cost
                    .with_label_values(&[name, &size.to_string()])
                    .set(*seconds);
            }
            self.model_queue_depth
                .with_label_values(&[name])
                .set(model.waiting as i64);
            self.model_predicted_wait
                .with_label_values(&[name])
                .set(model.predicted_wait.as_secs_f64());
        }
        let waiting: usize = models.iter().map(|model| model.waiting).sum();
        let longest = models.iter().map(|model| model.predicted_wait).max();
        self.queue_depth.set(waiting as i64);
        self.predicted_wait
            .set(longest.unwrap_or_default().as_secs_f64());
    }
}
