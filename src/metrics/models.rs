//! What is known of each model that is served: gauges that are filled when they are scraped, so
//! that a model that has gone leaves nothing behind.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::catalogue::Catalogue;

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
    /// Inputs that wait.
    pub waiting: usize,
    /// Time until the answer to a new request would be ready.
    pub predicted_wait: Duration,
    /// Batch sizes that have run, and their seconds.
    pub curve: Vec<(usize, f64)>,
}

/// The metrics of all models together and of each.
#[derive(Debug)]
pub(super) struct Models {
    queue_depth: IntGauge,
    predicted_wait: Gauge,
    pictures: IntCounterVec,
    each_queue_depth: IntGaugeVec,
    each_predicted_wait: GaugeVec,
    batch_cost: GaugeVec,
    info: IntGaugeVec,
}

impl Models {
    pub(super) fn new(all: &mut Catalogue) -> Result<Self> {
        Ok(Self {
            queue_depth: all.count("queue_depth", "Pictures that wait for a batch.")?,
            predicted_wait: all.gauge(
                "predicted_wait_seconds",
                "Time until a newcomer's answer would be ready, from the busiest model.",
            )?,
            pictures: all.counters(
                "pictures_total",
                "Pictures that a model has seen.",
                &["model"],
            )?,
            each_queue_depth: all.counts(
                "model_queue_depth",
                "Pictures that wait for this model.",
                &["model"],
            )?,
            each_predicted_wait: all.gauges(
                "model_predicted_wait_seconds",
                "Time until a newcomer's answer from this model would be ready.",
                &["model"],
            )?,
            batch_cost: all.gauges(
                "batch_cost_seconds",
                "Learned time of a batch, by model and the number of pictures in it.",
                &["model", "size"],
            )?,
            info: all.counts(
                "model_info",
                "1 for each model being served.",
                &["model", "architecture", "precision", "digest", "device"],
            )?,
        })
    }

    pub(super) fn picture(&self, model: &str) {
        self.pictures.with_label_values(&[model]).inc();
    }

    pub(super) fn forget(&self, model: &str) {
        // Missing where it has seen no picture.
        let _ = self.pictures.remove_label_values(&[model]);
    }

    /// What is served now. Not to be called by two at a time.
    pub(super) fn fill(&self, models: &[ModelState]) {
        self.info.reset();
        self.batch_cost.reset();
        self.each_queue_depth.reset();
        self.each_predicted_wait.reset();
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
            for (size, seconds) in &model.curve {
                self.batch_cost
                    .with_label_values(&[name, &size.to_string()])
                    .set(*seconds);
            }
            self.each_queue_depth
                .with_label_values(&[name])
                .set(model.waiting as i64);
            self.each_predicted_wait
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
