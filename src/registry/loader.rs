//! From a model directory to a model that answers.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use patchlight_engine::{
    Device, Engine, EngineError, Input, Kernels, OrtEngine, Output, Runtime, SessionOptions,
    threads,
};
use patchlight_imaging::{
    decode::{JpegScaling, Limits},
    preprocess::{ImageTensor, Pipeline, TensorForm},
};
use patchlight_import::CancelFlag;
use patchlight_model::{ModelDescriptor, ModelError, ModelInfo};
use patchlight_sources::{Source, SourceError};

use crate::{
    batch::{Batcher, FatalSignal, Policy, Workers},
    classify::{Classifier, ResultCache},
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
    device: Device,
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
            device: config.device,
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
        Ok(self.sources.model_dir(source, self.device, cancel)?)
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
            device,
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
            device,
            pipeline: Arc::new(pipeline),
            form,
            batcher,
            limits: self.limits,
            jpeg_scaling: self.jpeg_scaling,
            budget: self.budget.clone(),
            store: self.store.clone(),
            keep_previews: self.keep_previews,
            results: self.results.clone(),
            request_log: self.request_log.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        Ok((classifier, workers))
    }

    /// Loads the sessions, one after the other, and proves that they work. Engines that share a
    /// session are warmed up together: the first meets every batch size.
    fn sessions(&self, model: &ModelInfo) -> Result<Sessions, EngineError> {
        let started = Instant::now();
        let options = SessionOptions {
            device: self.device,
            threads: self.threads,
            sessions: self.sessions.map_or(1, NonZeroUsize::get),
            spin: threads::may_spin(),
            kernels: self.kernels,
            replay: true,
            graph: model.graph(),
        };
        let manifest = &model.manifest;
        let mut first = OrtEngine::load(&self.runtime, manifest, &options)?;
        let (device, form, shared) = (first.device(), first.tensor_form(), first.shares_device());
        let max_batch = self.policy.max_batch.get();
        let warm_up = run_sizes(&mut first, &warm_up(device, max_batch))?;
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
                true => vec![max_batch],
                false => self::warm_up(device, max_batch),
            };
            run_sizes(&mut more, &sizes)?;
            engines.push(more);
        }
        let first_runs: Duration = warm_up.iter().map(|(_, took)| *took).sum();
        let loaded = started.elapsed().saturating_sub(first_runs);
        tracing::info!(
            %device,
            sessions = engines.len(),
            threads = options.threads,
            shared,
            spin = options.spin,
            input = ?form,
            "device"
        );
        if let Some(memory) = engines[0].card_memory() {
            let mib = |bytes: usize| bytes >> 20;
            tracing::info!(
                %device,
                free_mib = mib(memory.free),
                total_mib = mib(memory.total),
                "memory of the card with the model loaded"
            );
        }
        tracing::info!(
            model = model.name,
            architecture = manifest.architecture.name,
            precision = %manifest.graph.precision,
            digest = model.short_digest(),
            directory = %model.directory.display(),
            load_ms = loaded.as_millis() as u64,
            first_run_ms = first_runs.as_millis() as u64,
            "model"
        );
        Ok(Sessions {
            device,
            form,
            engines,
            warm_up,
        })
    }
}

/// Runs batches of these sizes, and answers how long each took.
fn run_sizes(
    engine: &mut OrtEngine,
    sizes: &[usize],
) -> Result<Vec<(usize, Duration)>, EngineError> {
    let values = engine.image_len();
    let image = match engine.tensor_form() {
        TensorForm::Normalized => ImageTensor::Normalized(vec![0.0; values]),
        TensorForm::Pixels => ImageTensor::Pixels(vec![0; values]),
    };
    let mut times = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let started = Instant::now();
        let input = Input {
            // Proven once. Requests want it seldom, and its size would spoil the times.
            class_attention: times.is_empty(),
            ..Input::in_full(&image)
        };
        let outputs = engine.run(&vec![input; size])?;
        times.push((size, started.elapsed()));
        if !outputs.iter().flat_map(Output::values).all(f32::is_finite) {
            let error = "its first run gave values that are not finite".to_owned();
            return Err(EngineError::Graph(error));
        }
    }
    Ok(times)
}

/// The sessions of a model.
struct Sessions {
    device: Device,
    form: TensorForm,
    engines: Vec<OrtEngine>,
    /// Batch sizes that each has run, and the time that the first of them took.
    warm_up: Vec<(usize, Duration)>,
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
