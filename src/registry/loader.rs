//! From a model directory to a model that answers.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use patchlight_engine::{
    Device, Devices, Engine, EngineError, Input, Kernels, OrtEngine, Output, Runtime,
    SessionOptions, TensorRtOptions, threads,
};
use patchlight_imaging::{
    decode::{JpegScaling, Limits},
    preprocess::{ImageTensor, Pipeline, TensorForm},
};
use patchlight_import::CancelFlag;
use patchlight_model::{ModelDescriptor, ModelError, ModelInfo};
use patchlight_sources::{Source, SourceError};

use crate::{
    batch::{Batcher, FatalSignal, Policy, WarmUp, Workers},
    classify::{AbstainRule, Classifier, ResultCache},
    config::Config,
    decode_budget::DecodeBudget,
    metrics::Metrics,
    request_log::RequestLog,
    sources::SourceSettings,
    store::Store,
};

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The model directory is refused.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// Its preprocessing cannot be done.
    #[error("preprocessing: {}", .0.join("; "))]
    Preprocess(Vec<String>),
    /// What is asked for needs a map.
    #[error("the model makes no map: {0}")]
    WithoutMap(String),
    /// Its address gives no model.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The runtime or the device does not take it.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The system has no thread for it.
    #[error("{0}")]
    Thread(#[from] std::io::Error),
}

/// Loads models that share memory for images, the map store and the metrics, and differ in
/// session, queue and worker.
#[derive(Debug)]
pub struct Loader {
    runtime: Runtime,
    devices: Devices,
    kernels: Kernels,
    threads: usize,
    sessions: Option<NonZeroUsize>,
    policy: Policy,
    limits: Limits,
    jpeg_scaling: JpegScaling,
    budget: DecodeBudget,
    store: Store,
    keep_previews: bool,
    results: Option<ResultCache>,
    abstain: AbstainRule,
    request_log: RequestLog,
    metrics: Arc<Metrics>,
    fatal: FatalSignal,
    sources: SourceSettings,
    /// Ends downloads and imports.
    pub(super) cancel: CancelFlag,
}

impl Loader {
    /// Everything that models have in common.
    pub fn new(
        config: &Config,
        runtime: Runtime,
        request_log: RequestLog,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            runtime,
            devices: config.devices.clone(),
            kernels: config.kernels,
            threads: config.threads,
            sessions: config.sessions,
            policy: config.policy,
            limits: Limits {
                max_pixels: config.max_pixels,
                max_side: config.max_side,
            },
            jpeg_scaling: config.jpeg_scaling,
            budget: DecodeBudget::new(config.decode_memory, config.threads),
            store: Store::new(&config.store, Arc::clone(&metrics)),
            keep_previews: config.keep_previews,
            results: config
                .result_cache
                .map(|bytes| ResultCache::new(bytes, config.store.ttl, Arc::clone(&metrics))),
            abstain: config.abstain,
            request_log,
            metrics,
            fatal: FatalSignal::default(),
            sources: config.sources.clone(),
            cancel: CancelFlag::default(),
        }
    }

    /// Where events about answers go.
    pub fn request_log(&self) -> &RequestLog {
        &self.request_log
    }

    /// Raised when the engine of any model is broken for good.
    pub fn fatal(&self) -> &FatalSignal {
        &self.fatal
    }

    /// Where maps go, whichever model made them.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Counts and times everything.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The model directory of a source, fetched and imported if it is an address. Blocks the calling
    /// thread, perhaps for minutes.
    ///
    /// # Errors
    /// Whatever keeps it from being one.
    pub fn fetch(&self, source: &Source, cancel: &CancelFlag) -> Result<PathBuf, LoadError> {
        Ok(self
            .sources
            .model_dir(source, self.devices.first(), Some(&self.runtime), cancel)?)
    }

    /// Verifies the directory by its digests, loads the graph, runs it once, and starts its
    /// workers. Takes seconds for a large model and blocks the calling thread.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    pub fn load(&self, name: &str, directory: &Path) -> Result<(Classifier, Workers), LoadError> {
        let mut model = ModelInfo::open(directory)?;
        name.clone_into(&mut model.name);
        self.load_verified(model)
    }

    /// The same for a directory whose files have just been verified.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    pub fn load_verified(&self, model: ModelInfo) -> Result<(Classifier, Workers), LoadError> {
        let pipeline = Pipeline::new(&model.manifest.preprocess).map_err(LoadError::Preprocess)?;
        let Sessions {
            devices,
            form,
            engines,
            warm_up,
        } = self.sessions(&model)?;
        let (batcher, workers) = Batcher::spawn(
            engines,
            self.policy,
            &warm_up,
            Arc::clone(&self.metrics),
            &self.fatal,
        )?;
        let classifier = Classifier {
            descriptor: Arc::new(ModelDescriptor::of(&model)),
            model: Arc::new(model),
            devices,
            pipeline: Arc::new(pipeline),
            form,
            batcher,
            limits: self.limits,
            jpeg_scaling: self.jpeg_scaling,
            budget: self.budget.clone(),
            store: self.store.clone(),
            keep_previews: self.keep_previews,
            results: self.results.clone(),
            abstain: self.abstain,
            request_log: self.request_log.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        Ok((classifier, workers))
    }

    /// Loads the sessions, those of several cards at the same time, and proves that they work.
    fn sessions(&self, model: &ModelInfo) -> Result<Sessions, EngineError> {
        let started = Instant::now();
        let of_devices = thread::scope(|scope| {
            let load = |device| scope.spawn(move || self.sessions_on(device, model));
            let loading: Vec<_> = self.devices.iter().map(load).collect();
            let loaded = loading.into_iter().map(|loading| {
                let panicked = |_| Err(EngineError::Graph("loading it panicked".to_owned()));
                loading.join().unwrap_or_else(panicked)
            });
            loaded.collect::<Result<Vec<Sessions>, _>>()
        })?;
        let sessions = Sessions::join(of_devices)?;
        let first_runs: Duration = sessions.warm_up.times.iter().map(|(_, took)| *took).sum();
        tracing::info!(
            model = model.name,
            architecture = model.manifest.architecture.name,
            precision = %model.manifest.graph.precision,
            digest = model.short_digest(),
            directory = %model.directory.display(),
            load_ms = started.elapsed().saturating_sub(first_runs).as_millis() as u64,
            first_run_ms = first_runs.as_millis() as u64,
            "model"
        );
        Ok(sessions)
    }

    /// Loads the sessions of one device, one after the other. Engines that share a session are
    /// warmed up together: the first meets every batch size.
    fn sessions_on(&self, device: Device, model: &ModelInfo) -> Result<Sessions, EngineError> {
        let options = SessionOptions {
            device,
            threads: self.threads,
            sessions: self.sessions.map_or(1, NonZeroUsize::get),
            spin: threads::may_spin(),
            kernels: self.kernels,
            replay: true,
            tensorrt: TensorRtOptions {
                max_batch: self.policy.max_batch.get(),
                cache: self.sources.cache_dir_or_default(),
                model: model.digest.clone(),
            },
            graph: model.graph(),
        };
        let manifest = &model.manifest;
        let mut first = OrtEngine::load(&self.runtime, manifest, &options)?;
        let (device, form, shared) = (first.device(), first.tensor_form(), first.shares_device());
        let max_batch = self.policy.max_batch.get();
        let mut warmed = WarmUp::default();
        let image = blank_image(&first);
        run_sizes(&mut first, &image, &warm_up(device, max_batch), &mut warmed)?;
        let by_default = if shared { SHARED_BATCHES } else { 1 };
        let mut engines = vec![first];
        while engines.len() < self.sessions.map_or(by_default, NonZeroUsize::get) {
            let mut more = match shared {
                true => engines[0].another()?,
                false => OrtEngine::load(&self.runtime, manifest, &options)?,
            };
            if more.device() != device {
                // One queue has one latency model, which two kinds of engines would not fit.
                tracing::warn!(%device, sessions = engines.len(), "the device has room for no more");
                break;
            }
            let sizes = match shared {
                true => vec![warmed.largest.unwrap_or(max_batch)],
                false => warm_up(device, max_batch),
            };
            run_sizes(&mut more, &image, &sizes, &mut warmed)?;
            engines.push(more);
        }
        tracing::info!(
            %device,
            sessions = engines.len(),
            threads = options.threads,
            shared,
            spin = options.spin,
            input = ?form,
            "device"
        );
        if let Some(memory) = device.card_memory() {
            let mib = |bytes: usize| bytes >> 20;
            tracing::info!(
                %device,
                free_mib = mib(memory.free),
                total_mib = mib(memory.total),
                "memory of the card with the model loaded"
            );
        }
        Ok(Sessions {
            devices: device.into(),
            form,
            engines,
            warm_up: warmed,
        })
    }
}

/// Runs batches of these sizes, but for those that no engine before had memory for, and notes what
/// fits. The first engine's times are noted as well.
fn run_sizes<E: Engine>(
    engine: &mut E,
    image: &ImageTensor,
    sizes: &[usize],
    warm_up: &mut WarmUp,
) -> Result<(), EngineError> {
    let is_first = warm_up.times.is_empty();
    let mut has_run = false;
    for &size in sizes {
        if warm_up.largest.is_some_and(|largest| size > largest) {
            continue;
        }
        let started = Instant::now();
        let input = Input {
            // Proven once. Requests want it seldom, and its size would spoil the times.
            class_attention: !has_run,
            ..Input::in_full(image)
        };
        let outputs = match engine.run(&vec![input; size]) {
            Ok(outputs) => outputs,
            Err(EngineError::OutOfMemory { error, .. }) if size > 1 => {
                tracing::warn!(
                    device = %engine.device(),
                    size,
                    error,
                    "the device has no memory for a batch of this size; smaller ones are run"
                );
                warm_up.largest = Some(size - 1);
                continue;
            }
            Err(error) => return Err(error),
        };
        has_run = true;
        if is_first {
            warm_up.times.push((size, started.elapsed()));
        }
        if !outputs.iter().flat_map(Output::values).all(f32::is_finite) {
            let error = "its first run gave values that are not finite".to_owned();
            return Err(EngineError::Graph(error));
        }
    }
    // A size between those that were tried is not known to fit.
    if let Some(largest) = &mut warm_up.largest {
        let fits = sizes.iter().filter(|&size| size <= largest).max();
        *largest = fits.copied().unwrap_or(1);
    }
    Ok(())
}

/// A black image as the engine takes it.
fn blank_image(engine: &OrtEngine) -> ImageTensor {
    let values = engine.image_len();
    match engine.tensor_form() {
        TensorForm::Normalized => ImageTensor::Normalized(vec![0.0; values]),
        TensorForm::Pixels => ImageTensor::Pixels(vec![0; values]),
    }
}

/// The sessions of a model.
struct Sessions {
    devices: Devices,
    form: TensorForm,
    engines: Vec<OrtEngine>,
    /// What each has run, and the time that the first of them took.
    warm_up: WarmUp,
}

impl Sessions {
    /// Those of several devices, which take images in one form.
    fn join(of_devices: Vec<Self>) -> Result<Self, EngineError> {
        let mut all = of_devices.into_iter();
        let none = || EngineError::Graph("no device to load it on".to_owned());
        let mut joined = all.next().ok_or_else(none)?;
        for mut sessions in all {
            if sessions.form != joined.form {
                return Err(EngineError::Graph(format!(
                    "{} and {} do not take images in one form, because this program's kernels work \
                     on one of them alone; serve them apart, or with --kernels stock",
                    joined.devices, sessions.devices
                )));
            }
            let device = sessions.devices.first();
            joined.devices.add(device).map_err(EngineError::Graph)?;
            joined.engines.append(&mut sessions.engines);
            let limits = [joined.warm_up.largest, sessions.warm_up.largest];
            joined.warm_up.largest = limits.into_iter().flatten().min();
        }
        Ok(joined)
    }
}

/// Batches at a time on a session that several engines share: one computes, the next is copied and
/// launched meanwhile.
const SHARED_BATCHES: usize = 2;

/// Every size up to this one is met before the model is ready, and every multiple of it.
const FINE_SIZES: usize = 8;

/// Batch sizes that run before the model is ready. On a CPU one image proves that it works. A GPU
/// chooses kernels and takes memory for each size when it first meets it, the largest first, so
/// that the others fit into what is there; then each once more, because the first run says nothing
/// of the time that the following ones take. Launches of small batches are recorded in their second
/// run, so these have a third.
fn warm_up(device: Device, max_batch: usize) -> Vec<usize> {
    match device {
        Device::Auto | Device::Cpu => vec![1],
        Device::Cuda(_) | Device::TensorRt(_) => {
            let met = |size: &usize| {
                *size <= FINE_SIZES || size.is_multiple_of(FINE_SIZES) || *size == max_batch
            };
            let sizes = (1..=max_batch).rev().filter(met);
            let small = sizes.clone().filter(|&size| size <= FINE_SIZES);
            sizes.clone().chain(sizes).chain(small).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has memory for so many images at once, and notes the batches that it was asked for.
    struct SmallDevice(usize, Vec<usize>);

    impl Engine for SmallDevice {
        fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
            let size = inputs.len();
            self.1.push(size);
            if size > self.0 {
                let error = "asked for".to_owned();
                return Err(EngineError::OutOfMemory { size, error });
            }
            let output = Output {
                logits: vec![0.0],
                rollout: Vec::new(),
                attribution: None,
                class_attention: None,
            };
            Ok(vec![output; size])
        }

        fn device(&self) -> Device {
            Device::Cuda(0)
        }

        fn rebuild(&mut self) -> Result<(), EngineError> {
            Ok(())
        }
    }

    fn warmed(room: usize, max_batch: usize) -> (Result<WarmUp, EngineError>, Vec<usize>) {
        let mut device = SmallDevice(room, Vec::new());
        let mut warmed = WarmUp::default();
        let image = ImageTensor::Pixels(vec![0]);
        let sizes = warm_up(Device::Cuda(0), max_batch);
        let outcome = run_sizes(&mut device, &image, &sizes, &mut warmed);
        (outcome.map(|()| warmed), device.1)
    }

    #[test]
    fn what_does_not_fit_in_the_warm_up_is_tried_once_and_bounds_what_is_served() {
        let (warmed, tried) = warmed(10, 20);
        let warmed = warmed.unwrap();
        assert_eq!(warmed.largest, Some(8));
        assert_eq!(tried[..3], [20, 16, 8]);
        assert_eq!(tried.iter().filter(|&&size| size > 8).count(), 2);
        assert_eq!(warmed.times.len(), tried.len() - 2);
    }

    #[test]
    fn with_room_for_all_nothing_is_bounded_and_without_any_the_model_is_refused() {
        assert_eq!(warmed(20, 20).0.unwrap().largest, None);
        let error = warmed(0, 20).0.unwrap_err();
        assert!(matches!(error, EngineError::OutOfMemory { size: 1, .. }));
    }

    #[test]
    fn a_gpu_meets_small_sizes_three_times_before_the_first_request() {
        let met = [3, 2, 1, 3, 2, 1, 3, 2, 1];
        assert_eq!(warm_up(Device::Cuda(0), 3), met);
        assert_eq!(warm_up(Device::Cpu, 8), [1]);
    }

    #[test]
    fn of_large_sizes_a_gpu_meets_some_and_the_largest() {
        let met = warm_up(Device::Cuda(0), 20);
        assert_eq!(met[..10], [20, 16, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(met[10..20], met[..10]);
        assert_eq!(met[20..], met[2..10]);
    }
}
