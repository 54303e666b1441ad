//! Every metric, its unit, its buckets and its labels, in one struct.
//!
//! Built once in [`app`](crate::app) around a registry of its own and passed on. Labels are
//! bounded: endpoints are route templates, codes and reasons come from fixed sets.

use std::time::Duration;

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

/// What is asked of a store of maps, as a label of `patchlight_attention_store_failures_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreAction {
    /// To keep a map.
    Keep,
    /// To find one.
    Find,
    /// To forget one.
    Forget,
}

impl StoreAction {
    const ALL: [Self; 3] = [Self::Keep, Self::Find, Self::Forget];

    fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Find => "find",
            Self::Forget => "forget",
        }
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Registry,
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
    attention_entries: IntGauge,
    attention_evicted: IntCounter,
    store_failures: IntCounterVec,
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
                "Time until a newcomer's answer would be ready.",
            )?,
            batch_cost: GaugeVec::new(
                Opts::new(
                    "batch_cost_seconds",
                    "Learned time of a batch, by the number of pictures in it.",
                ),
                &["size"],
            )?,
            attention_entries: IntGauge::new(
                "attention_entries",
                "Attention maps in this process's memory.",
            )?,
            attention_evicted: IntCounter::new(
                "attention_evicted_total",
                "Attention maps dropped before their time because memory was short.",
            )?,
            store_failures: IntCounterVec::new(
                Opts::new(
                    "attention_store_failures_total",
                    "Maps that a shared store could not keep, find or forget, by action.",
                ),
                &["action"],
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
        registry.register(Box::new(self.attention_entries.clone()))?;
        registry.register(Box::new(self.attention_evicted.clone()))?;
        registry.register(Box::new(self.store_failures.clone()))?;
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
        for action in StoreAction::ALL {
            self.store_failures.with_label_values(&[action.name()]);
        }
        for stage in ["upload", "decode", "queue", "inference"] {
            self.abandoned.with_label_values(&[stage]);
        }
        Ok(())
    }

    /// The text that Prometheus scrapes. `curve` holds batch sizes and their seconds.
    ///
    /// # Errors
    /// When a collector gives something that cannot be written.
    pub fn encode(
        &self,
        load: Load,
        curve: &[(usize, f64)],
        maps: u64,
    ) -> prometheus::Result<String> {
        for (size, seconds) in curve {
            self.batch_cost
                .with_label_values(&[&size.to_string()])
                .set(*seconds);
        }
        self.queue_depth.set(load.waiting as i64);
        self.predicted_wait.set(load.predicted_wait.as_secs_f64());
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

    /// A store outside this process could not do its work.
    pub fn store_failed(&self, action: StoreAction) {
        self.store_failures
            .with_label_values(&[action.name()])
            .inc();
    }

    /// What is served, said once it is loaded.
    pub fn describe_model(
        &self,
        name: &str,
        architecture: &str,
        precision: &str,
        digest: &str,
        device: &str,
    ) {
        self.model_info
            .with_label_values(&[name, architecture, precision, digest, device])
            .set(1);
    }

    /// What runs, said at start.
    pub fn describe_build(&self, version: &str, commit: &str, onnxruntime: &str) {
        self.build_info
            .with_label_values(&[version, commit, onnxruntime])
            .set(1);
    }
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
        metrics.describe_model("demo", "ViT-Ti/16", "fp32", "0", "cpu");
        let text = metrics.encode(Load::default(), &[(3, 0.25)], 2).unwrap();
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
            "patchlight_batch_cost_seconds{size=\"3\"} 0.25",
            "patchlight_attention_entries 2",
            "patchlight_attention_evicted_total 0",
            "patchlight_attention_store_failures_total{action=\"keep\"} 0",
            "patchlight_model_info{",
            "patchlight_build_info{",
        ] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
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
