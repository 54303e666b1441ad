//! Every metric, its unit, its buckets and its labels, in one struct.
//!
//! Built once in [`app`](crate::app) around a registry of its own and passed on. Labels are
//! bounded: endpoints are route templates, codes and reasons come from fixed sets.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::batch::Load;

/// Resolves both 1 ms and 10 s: a third of a decade apart, in seconds.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
];

const BATCH_SIZES: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0,
];

/// A part of the way of a picture, as a label of `patchlight_stage_duration_seconds`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Bytes to upright RGB.
    Decode,
    /// RGB to input tensor.
    Preprocess,
    /// Waiting for a batch.
    Queue,
    /// The batch's run.
    Inference,
    /// Drawing a map.
    Render,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Preprocess => "preprocess",
            Self::Queue => "queue",
            Self::Inference => "inference",
            Self::Render => "render",
        }
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Registry,
    /// Held while the gauges of models are filled and read: a scrape never sees half of them.
    scrape: Mutex<()>,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    stage_seconds: HistogramVec,
    batch_size: Histogram,
    queue_depth: IntGauge,
    in_flight: IntGauge,
    shed: IntCounterVec,
    abandoned: IntCounterVec,
    predicted_wait: Gauge,
    batch_cost: GaugeVec,
    pictures: IntCounterVec,
    model_queue_depth: IntGaugeVec,
    model_predicted_wait: GaugeVec,
    attention_entries: IntGauge,
    attention_evicted: IntCounter,
    inference_failures: IntCounter,
    decode_panics: IntCounter,
    model_info: IntGaugeVec,
    build_info: IntGaugeVec,
}

impl Metrics {
    /// Registers everything, process metrics included.
    ///
    /// # Errors
    /// When two metrics clash: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("patchlight".to_owned()), None)?;
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "requests_total",
                    "Answered HTTP requests by route and status code.",
                ),
                &["endpoint", "code"],
            )?,
            request_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "request_duration_seconds",
                    "From the request's head to the end of its answer's head, by route.",
                )
                .buckets(SECONDS.to_vec()),
                &["endpoint"],
            )?,
            stage_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "stage_duration_seconds",
                    "Time one picture spends in a stage.",
                )
                .buckets(SECONDS.to_vec()),
                &["stage"],
            )?,
            batch_size: Histogram::with_opts(
                HistogramOpts::new(
                    "batch_size",
                    "Pictures in a served batch, warm-up left out.",
                )
                .buckets(BATCH_SIZES.to_vec()),
            )?,
            queue_depth: IntGauge::new("queue_depth", "Pictures that wait for a batch.")?,
            in_flight: IntGauge::new("in_flight_requests", "HTTP requests being answered.")?,
            shed: IntCounterVec::new(
                Opts::new(
                    "shed_total",
                    "Requests refused to protect the others, by reason.",
                ),
                &["reason"],
            )?,
            abandoned: IntCounterVec::new(
                Opts::new(
                    "abandoned_total",
                    "Pictures whose client left, by the stage they were in.",
                ),
                &["stage"],
            )?,
            predicted_wait: Gauge::new(
                "predicted_wait_seconds",
                "Time until a newcomer's answer would be ready, from the busiest model.",
            )?,
            batch_cost: GaugeVec::new(
                Opts::new(
                    "batch_cost_seconds",
                    "Learned time of a batch, by model and the number of pictures in it.",
                ),
                &["model", "size"],
            )?,
            pictures: IntCounterVec::new(
                Opts::new("pictures_total", "Pictures that a model has seen."),
                &["model"],
            )?,
            model_queue_depth: IntGaugeVec::new(
                Opts::new("model_queue_depth", "Pictures that wait for this model."),
                &["model"],
            )?,
            model_predicted_wait: GaugeVec::new(
                Opts::new(
                    "model_predicted_wait_seconds",
                    "Time until a newcomer's answer from this model would be ready.",
                ),
                &["model"],
            )?,
            attention_entries: IntGauge::new("attention_entries", "Attention maps that are kept.")?,
            attention_evicted: IntCounter::new(
                "attention_evicted_total",
                "Attention maps dropped before their time because memory was short.",
            )?,
            inference_failures: IntCounter::new(
                "inference_failures_total",
                "Pictures for which the engine failed when run alone.",
            )?,
            decode_panics: IntCounter::new(
                "decode_panics_total",
                "Pictures on which a decoder panicked; the request got 422.",
            )?,
            model_info: IntGaugeVec::new(
                Opts::new("model_info", "1 for the model being served."),
                &["model", "architecture", "precision", "digest", "device"],
            )?,
            build_info: IntGaugeVec::new(
                Opts::new("build_info", "1 for the program that runs."),
                &["version", "commit", "onnxruntime"],
            )?,
            registry,
            process: Registry::new(),
            scrape: Mutex::default(),
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let registry = &self.registry;
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.request_seconds.clone()))?;
        registry.register(Box::new(self.stage_seconds.clone()))?;
        registry.register(Box::new(self.batch_size.clone()))?;
        registry.register(Box::new(self.queue_depth.clone()))?;
        registry.register(Box::new(self.in_flight.clone()))?;
        registry.register(Box::new(self.shed.clone()))?;
        registry.register(Box::new(self.abandoned.clone()))?;
        registry.register(Box::new(self.predicted_wait.clone()))?;
        registry.register(Box::new(self.batch_cost.clone()))?;
        registry.register(Box::new(self.pictures.clone()))?;
        registry.register(Box::new(self.model_queue_depth.clone()))?;
        registry.register(Box::new(self.model_predicted_wait.clone()))?;
        registry.register(Box::new(self.attention_entries.clone()))?;
        registry.register(Box::new(self.attention_evicted.clone()))?;
        registry.register(Box::new(self.inference_failures.clone()))?;
        registry.register(Box::new(self.decode_panics.clone()))?;
        registry.register(Box::new(self.model_info.clone()))?;
        registry.register(Box::new(self.build_info.clone()))?;
        // Unprefixed, as dashboards for any program expect them.
        #[cfg(target_os = "linux")]
        self.process.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;

        // Counters that alerts look at exist from the start, so that a rate has a zero to start
        // from.
        for reason in ["queue_full", "predicted_wait", "upload_memory"] {
            self.shed.with_label_values(&[reason]);
        }
        for stage in ["upload", "decode", "queue", "inference"] {
            self.abandoned.with_label_values(&[stage]);
        }
        Ok(())
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// When a collector gives something that cannot be written.
    pub fn encode(&self, models: &[ModelState], maps: u64) -> prometheus::Result<String> {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.describe_models(models);
        self.attention_entries.set(maps as i64);
        let mut families = self.registry.gather();
        families.extend(self.process.gather());
        TextEncoder::new().encode_to_string(&families)
    }

    /// A request is being answered until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A request was answered.
    pub fn request(&self, endpoint: &str, code: u16, took: Duration) {
        self.requests
            .with_label_values(&[endpoint, &code.to_string()])
            .inc();
        self.request_seconds
            .with_label_values(&[endpoint])
            .observe(took.as_secs_f64());
    }

    /// A picture has passed a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage_seconds
            .with_label_values(&[stage.name()])
            .observe(took.as_secs_f64());
    }

    /// A batch was run.
    pub fn batch(&self, size: usize, ran: Duration) {
        self.batch_size.observe(size as f64);
        self.stage(Stage::Inference, ran);
    }

    /// A request was refused; `reason` is `queue_full`, `predicted_wait` or `upload_memory`.
    pub fn shed(&self, reason: &'static str) {
        self.shed.with_label_values(&[reason]).inc();
    }

    /// A client left while its picture was in `stage`: `upload`, `decode`, `queue`, `inference`.
    pub fn abandoned(&self, stage: &'static str) {
        self.abandoned.with_label_values(&[stage]).inc();
    }

    /// Counts a picture as abandoned in `stage` when the guard is dropped by a future that is.
    pub fn leaving(&self, stage: &'static str) -> Leaving {
        Leaving(Some(self.abandoned.with_label_values(&[stage])))
    }

    /// The engine failed for a single picture.
    pub fn inference_failed(&self) {
        self.inference_failures.inc();
    }

    /// A decoder panicked.
    pub fn decode_panicked(&self) {
        self.decode_panics.inc();
    }

    /// A map was dropped before its time.
    pub fn map_evicted(&self) {
        self.attention_evicted.inc();
    }

    /// A model has seen a picture.
    pub fn picture(&self, model: &str) {
        self.pictures.with_label_values(&[model]).inc();
    }

    /// Fills the gauges of what is served now; what was served before leaves nothing behind.
    fn describe_models(&self, models: &[ModelState]) {
        self.model_info.reset();
        self.batch_cost.reset();
        self.model_queue_depth.reset();
        self.model_predicted_wait.reset();
        for model in models {
            let ModelState { name, load, .. } = model;
            self.model_info
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
            self.model_queue_depth
                .with_label_values(&[name])
                .set(load.waiting as i64);
            self.model_predicted_wait
                .with_label_values(&[name])
                .set(load.predicted_wait.as_secs_f64());
        }
        let loads = || models.iter().map(|model| model.load);
        let waiting: usize = loads().map(|load| load.waiting).sum();
        let longest = loads().map(|load| load.predicted_wait).max();
        self.queue_depth.set(waiting as i64);
        self.predicted_wait
            .set(longest.unwrap_or_default().as_secs_f64());
    }

    /// What runs, said at start.
    pub fn describe_build(&self, version: &str, commit: &str, onnxruntime: &str) {
        self.build_info
            .with_label_values(&[version, commit, onnxruntime])
            .set(1);
    }
}

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
    /// How busy it is.
    pub load: Load,
    /// Batch sizes that have run, and their seconds.
    pub curve: Vec<(usize, f64)>,
}

/// Counts a request as in flight while it lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a client that leaves; see [`Metrics::leaving`].
#[derive(Debug)]
pub struct Leaving(Option<IntCounter>);

impl Leaving {
    /// The stage has ended with the client still there.
    pub fn stayed(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_the_names_that_the_contract_promises() {
        let metrics = Metrics::new().unwrap();
        metrics.request("/classify", 200, Duration::from_millis(15));
        metrics.batch(3, Duration::from_millis(30));
        metrics.describe_build("0", "0", "0");
        metrics.picture("demo");
        let text = metrics.encode(&[model("demo", 0)], 2).unwrap();
        for name in [
            "patchlight_requests_total{code=\"200\",endpoint=\"/classify\"} 1",
            "patchlight_request_duration_seconds_bucket",
            "patchlight_stage_duration_seconds_bucket{stage=\"inference\"",
            "patchlight_batch_size_sum 3",
            "patchlight_queue_depth 0",
            "patchlight_in_flight_requests 0",
            "patchlight_shed_total{reason=\"queue_full\"} 0",
            "patchlight_abandoned_total{stage=\"queue\"} 0",
            "patchlight_predicted_wait_seconds 0",
            "patchlight_batch_cost_seconds{model=\"demo\",size=\"3\"} 0.25",
            "patchlight_pictures_total{model=\"demo\"} 1",
            "patchlight_model_queue_depth{model=\"demo\"} 0",
            "patchlight_model_predicted_wait_seconds{model=\"demo\"} 0",
            "patchlight_attention_entries 2",
            "patchlight_attention_evicted_total 0",
            "patchlight_model_info{",
            "patchlight_build_info{",
        ] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
    }

    fn model(name: &str, waiting: usize) -> ModelState {
        ModelState {
            name: name.to_owned(),
            architecture: "ViT-Ti/16".to_owned(),
            precision: "fp32".to_owned(),
            digest: "0".to_owned(),
            device: "cpu".to_owned(),
            load: Load {
                waiting,
                running: 0,
                predicted_wait: Duration::from_secs(waiting as u64),
            },
            curve: vec![(3, 0.25)],
        }
    }

    #[test]
    fn models_add_up_and_leave_nothing_behind() {
        let metrics = Metrics::new().unwrap();
        let both = metrics.encode(&[model("a", 2), model("b", 3)], 0).unwrap();
        for line in [
            "patchlight_queue_depth 5",
            "patchlight_predicted_wait_seconds 3",
            "patchlight_model_queue_depth{model=\"a\"} 2",
        ] {
            assert!(both.contains(line), "{line} is missing in:\n{both}");
        }
        let one = metrics.encode(&[model("b", 3)], 0).unwrap();
        assert!(!one.contains("model=\"a\""), "{one}");
    }

    #[test]
    fn in_flight_ends_with_its_guard() {
        let metrics = Metrics::new().unwrap();
        let guard = metrics.in_flight();
        assert_eq!(metrics.in_flight.get(), 1);
        drop(guard);
        assert_eq!(metrics.in_flight.get(), 0);
    }
}
