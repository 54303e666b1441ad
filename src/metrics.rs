//! Every metric, its unit, its buckets and its labels, in one struct.
//!
//! Built once in [`app`](crate::app) around a registry of its own and passed on. Labels are
//! bounded: endpoints are route templates, codes and reasons come from fixed sets.
//! `docs/metrics.md` is made from here.

mod answers;
mod catalogue;
mod devices;
mod guards;
mod labels;
mod memory;
mod models;
mod request_log;
mod result_cache;
mod verify;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use patchlight_model::scores::ScoreSummary;
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use self::{
    answers::AnswerMetrics, catalogue::MetricBuilder, devices::DeviceMetrics, models::ModelMetrics,
    request_log::RequestLogMetrics, result_cache::ResultCacheMetrics, verify::VerifyMetrics,
};
pub use self::{
    catalogue::{MetricDescription, table},
    devices::ServingDevice,
    guards::{AbandonGuard, ActiveRequestGuard},
    labels::{ShedReason, Stage, StoreAction},
    models::ModelState,
    request_log::LogOutcome,
    result_cache::CacheOutcome,
};

/// Resolves both 1 ms and 10 s: a third of a decade apart, in seconds.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
];

const BATCH_SIZES: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0,
];

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Registry,
    described: Vec<MetricDescription>,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    stage_seconds: HistogramVec,
    batch_size: Histogram,
    models: ModelMetrics,
    devices: DeviceMetrics,
    answers: AnswerMetrics,
    in_flight: IntGauge,
    shed: IntCounterVec,
    quota_exceeded: IntCounter,
    abandoned: IntCounterVec,
    attention_entries: IntGauge,
    attention_evicted: IntCounter,
    store_failures: IntCounterVec,
    inference_failures: IntCounter,
    batches_out_of_memory: IntCounter,
    decode_panics: IntCounter,
    image_fetches: IntCounterVec,
    result_cache: ResultCacheMetrics,
    request_log: RequestLogMetrics,
    verify: VerifyMetrics,
    ready: IntGauge,
    build_info: IntGaugeVec,
    /// Held while gauges are filled and read: a scrape never sees half of them.
    scrape: Mutex<()>,
}

impl Metrics {
    /// Makes and registers everything, process metrics included.
    ///
    /// # Errors
    /// When two metrics clash: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let mut all = MetricBuilder::new()?;
        let requests = all.counters(
            "requests_total",
            "Answered HTTP requests by route and status code.",
            &["endpoint", "code"],
        )?;
        let request_seconds = all.histograms(
            "request_duration_seconds",
            "From the request's head to the end of its answer's head, by route.",
            &["endpoint"],
            SECONDS,
        )?;
        let stage_seconds = all.histograms(
            "stage_duration_seconds",
            "Time one image (for inference: one batch) spends in a stage: decode, preprocess, queue, inference, render.",
            &["stage"],
            SECONDS,
        )?;
        let batch_size = all.histogram(
            "batch_size",
            "Images in a served batch, warm-up left out.",
            BATCH_SIZES,
        )?;
        let models = ModelMetrics::new(&mut all)?;
        let devices = DeviceMetrics::new(&mut all)?;
        let answers = AnswerMetrics::new(&mut all)?;
        let in_flight = all.count("in_flight_requests", "HTTP requests being answered.")?;
        let shed = all.counters(
            "shed_total",
            &format!(
                "Requests refused to protect the others, by reason: {}.",
                ShedReason::ALL.map(ShedReason::name).join(", ")
            ),
            &["reason"],
        )?;
        let quota_exceeded = all.counter(
            "quota_exceeded_total",
            "Requests refused because their API key had used up its quota.",
        )?;
        let abandoned = all.counters(
            "abandoned_total",
            "Images whose client left, by the stage they were in: upload, fetch, decode, queue, inference.",
            &["stage"],
        )?;
        let attention_entries = all.count(
            "attention_entries",
            "Attention maps in this process's memory.",
        )?;
        let attention_evicted = all.counter(
            "attention_evicted_total",
            "Attention maps dropped before their time because memory was short.",
        )?;
        let store_failures = all.counters(
            "attention_store_failures_total",
            "Maps that a shared store could not keep, find or forget, by action: keep, find, forget.",
            &["action"],
        )?;
        let inference_failures = all.counter(
            "inference_failures_total",
            "Images for which the engine failed when run alone.",
        )?;
        let batches_out_of_memory = all.counter(
            "batches_out_of_memory_total",
            "Batches that a device had no memory for; they were halved and run again.",
        )?;
        let decode_panics = all.counter(
            "decode_panics_total",
            "Images on which a decoder panicked; the request got 422.",
        )?;
        let image_fetches = all.counters(
            "image_fetches_total",
            "Images that requests named by a URL, by outcome: fetched, refused, failed.",
            &["outcome"],
        )?;
        let result_cache = ResultCacheMetrics::new(&mut all)?;
        let request_log = RequestLogMetrics::new(&mut all)?;
        let verify = VerifyMetrics::new(&mut all)?;
        let ready = all.count("ready", "1 while `/readyz` says so, 0 while draining.")?;
        let memory_limit = all.counts(
            "memory_limit_bytes",
            "Memory that the container may use; missing where there is no limit.",
            &[],
        )?;
        let build_info = all.counts(
            "build_info",
            "1 for the program that runs.",
            &["version", "commit", "onnxruntime"],
        )?;
        let process = process_metrics(&mut all)?;
        let (registry, described) = all.finish();

        // What alerts and dashboards look at exists from the start, so that a rate has a zero to
        // start from.
        for reason in ShedReason::ALL {
            shed.with_label_values(&[reason.name()]);
        }
        for action in StoreAction::ALL {
            store_failures.with_label_values(&[action.name()]);
        }
        for outcome in ["fetched", "refused", "failed"] {
            image_fetches.with_label_values(&[outcome]);
        }
        for stage in ["upload", "fetch", "decode", "queue", "inference"] {
            abandoned.with_label_values(&[stage]);
        }
        for stage in Stage::ALL {
            stage_seconds.with_label_values(&[stage.name()]);
        }
        if let Some(bytes) = memory::limit() {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            memory_limit.with_label_values::<&str>(&[]).set(bytes);
        }
        Ok(Self {
            registry,
            process,
            described,
            requests,
            request_seconds,
            stage_seconds,
            batch_size,
            models,
            devices,
            answers,
            in_flight,
            shed,
            quota_exceeded,
            abandoned,
            attention_entries,
            attention_evicted,
            store_failures,
            inference_failures,
            batches_out_of_memory,
            decode_panics,
            image_fetches,
            result_cache,
            request_log,
            verify,
            ready,
            build_info,
            scrape: Mutex::default(),
        })
    }

    /// What each metric says of itself, in the order of the documentation.
    pub fn described(&self) -> &[MetricDescription] {
        &self.described
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// When a collector gives something that cannot be written.
    pub fn encode(&self, models: &[ModelState], maps: u64) -> prometheus::Result<String> {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.models.fill(models);
        let devices = models.iter();
        self.devices
            .fill(devices.map(|model| (model.name.as_str(), model.devices.as_slice())));
        self.attention_entries.set(maps as i64);
        let mut families = self.registry.gather();
        families.extend(self.process.gather());
        TextEncoder::new().encode_to_string(&families)
    }

    /// Whether new work should be sent here.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// A request is being answered until the guard is dropped.
    pub fn in_flight(&self) -> ActiveRequestGuard {
        self.in_flight.inc();
        ActiveRequestGuard(self.in_flight.clone())
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

    /// An image has passed a stage.
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

    /// A request was refused to protect the others.
    pub fn shed(&self, reason: ShedReason) {
        self.shed.with_label_values(&[reason.name()]).inc();
    }

    /// A request was refused because its key has asked for too much, however idle the server is.
    pub fn quota_exceeded(&self) {
        self.quota_exceeded.inc();
    }

    /// A client left while its image was in `stage`: `upload`, `decode`, `queue`, `inference`.
    pub fn abandoned(&self, stage: &'static str) {
        self.abandoned.with_label_values(&[stage]).inc();
    }

    /// Counts an image as abandoned in `stage` if the guard is dropped before it is disarmed.
    pub fn abandon_guard(&self, stage: &'static str) -> AbandonGuard {
        AbandonGuard(Some(self.abandoned.with_label_values(&[stage])))
    }

    /// The engine failed for a single image.
    pub fn inference_failed(&self) {
        self.inference_failures.inc();
    }

    /// An image was fetched from its URL, or not; `outcome` is `fetched`, `refused` or `failed`.
    pub fn image_fetched(&self, outcome: &'static str) {
        self.image_fetches.with_label_values(&[outcome]).inc();
    }

    /// A batch did not fit into its device's memory and is halved.
    pub fn batch_out_of_memory(&self) {
        self.batches_out_of_memory.inc();
    }

    /// A decoder panicked.
    pub fn decode_panicked(&self) {
        self.decode_panics.inc();
    }

    /// A request looked for the result of an identical one.
    pub fn cache_outcome(&self, how: CacheOutcome) {
        self.result_cache.count(how);
    }

    /// Bytes of results that are kept.
    pub fn results_kept(&self, bytes: u64) {
        self.result_cache.set_bytes(bytes);
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

    /// A model has seen an image.
    pub fn count_image(&self, model: &str) {
        self.models.count_image(model);
    }

    /// A model was asked about an image unlike those that it was calibrated on.
    pub fn unfamiliar(&self, model: &str) {
        self.models.unfamiliar(model);
    }

    /// An answer of a model was marked as one not to act on.
    pub fn abstained(&self, model: &str) {
        self.models.abstained(model);
    }

    /// A model has answered: how sure it was, and what its best label is called.
    pub fn answer(&self, model: &str, summary: &ScoreSummary, label: &str) {
        self.answers.observe(model, summary, label);
    }

    /// So many events of the request log ended this way.
    pub fn request_log(&self, outcome: LogOutcome, events: usize) {
        self.request_log.count(outcome, events);
    }

    /// A model is not served any more.
    pub fn remove_model(&self, model: &str) {
        self.models.remove(model);
        self.answers.remove(model);
    }

    /// So many perturbation tests are under way.
    pub fn verify_jobs(&self, waiting: usize, running: usize) {
        self.verify.under_way(waiting, running);
    }

    /// A perturbation test ended; `outcome` is `done`, `failed`, `cancelled` or `refused`.
    pub fn verify_ended(&self, outcome: &'static str) {
        self.verify.ended(outcome);
    }

    /// What runs, said at start.
    pub fn describe_build(&self, version: &str, commit: &str, onnxruntime: &str) {
        self.build_info
            .with_label_values(&[version, commit, onnxruntime])
            .set(1);
    }
}

/// Process metrics have a registry of their own: unprefixed, as dashboards for any program expect
/// them.
fn process_metrics(all: &mut MetricBuilder) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    {
        let collector = prometheus::process_collector::ProcessCollector::for_self();
        all.describe_others(&collector);
        registry.register(Box::new(collector))?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = all;
    Ok(registry)
}

#[cfg(test)]
mod tests;
