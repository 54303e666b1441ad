//! From a model directory to a model that answers.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    batch::{Alarm, Batcher, Policy, Workers},
    classify::{Classifier, ResultCache},
    config::Config,
    decode::{DecodeBudget, JpegScaling, Limits},
    engine::{
        Device, Engine, EngineError, Input, OrtEngine, Output, Runtime, SessionOptions, threads,
    },
    metrics::Metrics,
    model::{ModelError, ModelInfo, Outline, manifest::Manifest},
    preprocess::Pipeline,
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
    /// The runtime or the device does not take it.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The system has no thread for it.
    #[error("{0}")]
    Thread(#[from] std::io::Error),
}

/// Loads models that share memory for pictures, the map store and the metrics, and differ in
/// session, queue and worker.
#[derive(Debug)]
pub struct Loader {
    runtime: Runtime,
    device: Device,
    threads: usize,
    sessions: NonZeroUsize,
    policy: Policy,
    limits: Limits,
    jpeg_scaling: JpegScaling,
    budget: DecodeBudget,
    store: Store,
    keep_pictures: bool,
    results: Option<ResultCache>,
    metrics: Arc<Metrics>,
    alarm: Alarm,
}

impl Loader {
    /// Everything that models have in common.
    pub fn new(config: &Config, runtime: Runtime, metrics: Arc<Metrics>) -> Self {
        Self {
            runtime,
            device: config.device,
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
            keep_pictures: config.keep_pictures,
            results: config
                .result_cache
                .map(|bytes| ResultCache::new(bytes, Arc::clone(&metrics))),
            metrics,
            alarm: Alarm::default(),
        }
    }

    /// Rung when the engine of any model is broken for good.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Where maps go, whichever model made them.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Counts and times everything.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
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
            engines,
            warm_up,
        } = self.sessions(&model)?;
        let (batcher, workers) = Batcher::spawn(
            engines,
            self.policy,
            &warm_up,
            Arc::clone(&self.metrics),
            &self.alarm,
        )?;
        let classifier = Classifier {
            outline: Arc::new(Outline::of(&model)),
            model: Arc::new(model),
            device,
            pipeline: Arc::new(pipeline),
            batcher,
            limits: self.limits,
            jpeg_scaling: self.jpeg_scaling,
            budget: self.budget.clone(),
            store: self.store.clone(),
            keep_pictures: self.keep_pictures,
            results: self.results.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        Ok((classifier, workers))
    }

    /// Loads the sessions, one after the other, and proves that they work.
    fn sessions(&self, model: &ModelInfo) -> Result<Sessions, EngineError> {
        let started = Instant::now();
        let options = SessionOptions {
            device: self.device,
            threads: (self.threads / self.sessions).max(1),
            spin: threads::may_spin(),
            graph: model.graph(),
        };
        let manifest = &model.manifest;
        let (first, warm_up) = self.engine(manifest, &options)?;
        let device = first.device();
        let mut engines = vec![first];
        while engines.len() < self.sessions.get() {
            let (more, _) = self.engine(manifest, &options)?;
            if more.device() != device {
                // One queue has one curve, which two kinds of engines would not fit.
                tracing::warn!(%device, sessions = engines.len(), "the device has room for no more");
                break;
            }
            engines.push(more);
        }
        let first_runs: Duration = warm_up.iter().map(|(_, took)| *took).sum();
        let loaded = started.elapsed().saturating_sub(first_runs);
        tracing::info!(
            %device,
            sessions = engines.len(),
            threads = options.threads,
            spin = options.spin,
            "device"
        );
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
            engines,
            warm_up,
        })
    }

    /// One session, and how long each batch size took.
    fn engine(
        &self,
        manifest: &Manifest,
        options: &SessionOptions,
    ) -> Result<(OrtEngine, Vec<(usize, Duration)>), EngineError> {
        let mut engine = OrtEngine::load(&self.runtime, manifest, options)?;
        let (height, width) = manifest.input_size();
        let picture = vec![0.0; 3 * height * width];
        let mut times = Vec::new();
        for size in warm_up(engine.device(), self.policy.max_batch.get()) {
            let started = Instant::now();
            let outputs = engine.run(&vec![Input::in_full(&picture); size])?;
            times.push((size, started.elapsed()));
            if !outputs.iter().flat_map(Output::values).all(f32::is_finite) {
                let why = "its first run gave values that are not finite".to_owned();
                return Err(EngineError::Graph(why));
            }
        }
        Ok((engine, times))
    }
}

/// The sessions of a model.
struct Sessions {
    device: Device,
    engines: Vec<OrtEngine>,
    /// Batch sizes that each has run, and the time that the first of them took.
    warm_up: Vec<(usize, Duration)>,
}

/// Batch sizes that run before the model is ready. On a CPU one picture proves that it works. A GPU
/// chooses kernels and takes memory for each size when it first meets it, the largest first, so that
/// the others fit into what is there; then each once more, because the first run says nothing of the
/// time that the following ones take.
fn warm_up(device: Device, max_batch: usize) -> Vec<usize> {
    match device {
        Device::Auto | Device::Cpu => vec![1],
        Device::Cuda(_) | Device::TensorRt(_) => {
            let sizes = (1..=max_batch).rev();
            sizes.clone().chain(sizes).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_meets_every_batch_size_before_the_first_request() {
        assert_eq!(warm_up(Device::Cuda(0), 3), [3, 2, 1, 3, 2, 1]);
        assert_eq!(warm_up(Device::Cpu, 8), [1]);
    }
}
