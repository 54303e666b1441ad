//! Wires the parts together: from a [`Config`] to a running service.

use std::{path::Path, sync::Arc, time::Instant};

use axum::Router;
use tokio::{net::TcpListener, task};

use crate::{
    batch::{Batcher, WorkerHandle},
    classify::Classifier,
    config::Config,
    decode::{DecodeBudget, Limits},
    engine::{Engine, EngineError, OrtEngine, Runtime, SessionOptions, threads},
    http::{self, AppState, Easels, Readiness, UploadBudget},
    metrics::Metrics,
    model::{ModelError, ModelInfo},
    preprocess::Pipeline,
    server::{Server, Signals, Stop},
    store::MemoryStore,
};

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model directory is refused.
    #[error("model: {0}")]
    Model(#[from] ModelError),
    /// Its preprocessing cannot be done.
    #[error("preprocessing: {}", .0.join("; "))]
    Preprocess(Vec<String>),
    /// The runtime or the device does not work.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// What the system said.
        why: std::io::Error,
    },
    /// The system has no threads or no signals for us.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// Two metrics clash.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A model that is loaded and warmed up, with its queue.
#[derive(Debug)]
pub struct Core {
    /// The way of a picture.
    pub classifier: Arc<Classifier>,
    worker: WorkerHandle,
}

/// A [`Core`] behind its routes.
#[derive(Debug)]
pub struct App {
    /// All routes.
    pub routes: Router,
    /// What `/readyz` says.
    pub readiness: Readiness,
    core: Core,
}

impl Core {
    /// Loads the model and runs it once. Takes seconds for a large model and blocks the calling
    /// thread.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    pub fn start(config: &Config, runtime: &Runtime) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        metrics.describe_build(crate::VERSION, crate::COMMIT, runtime.version());
        let model = Arc::new(ModelInfo::open(&config.model)?);
        let preprocess = &model.manifest.preprocess;
        let pipeline = Arc::new(Pipeline::new(preprocess).map_err(StartError::Preprocess)?);
        let engine = load_engine(config, runtime, &model, &metrics)?;

        let (batcher, worker) = Batcher::spawn(engine, config.policy, Arc::clone(&metrics))?;
        let classifier = Arc::new(Classifier {
            model,
            pipeline,
            batcher,
            limits: Limits {
                max_pixels: config.max_pixels,
                ..Limits::default()
            },
            jpeg_scaling: config.jpeg_scaling,
            budget: DecodeBudget::new(config.decode_memory, config.threads),
            store: MemoryStore::new(config.store, Arc::clone(&metrics)),
            keep_pictures: config.keep_pictures,
            metrics,
        });
        Ok(Self { classifier, worker })
    }
}

impl App {
    /// Puts a model behind its routes, ready.
    pub fn new(core: Core, config: &Config) -> Self {
        let readiness = Readiness::default();
        let routes = http::router(AppState {
            classifier: Arc::clone(&core.classifier),
            limits: config.http,
            readiness: readiness.clone(),
            keys: config.api_keys.clone(),
            uploads: UploadBudget::new(config.decode_memory),
            easels: Easels::new(config.threads),
            metrics: Arc::clone(&core.classifier.metrics),
        });
        readiness.set(true);
        Self {
            routes,
            readiness,
            core,
        }
    }

    /// Serves until a signal, then drains; whether everything accepted was finished.
    pub async fn serve(self, listener: TcpListener, config: &Config, mut signals: Signals) -> bool {
        let server = Server::new(listener, self.routes);
        let stop = server
            .run(&mut signals, &self.readiness, config.drain.delay)
            .await;
        if stop == Stop::Now {
            self.core.classifier.batcher.refuse_waiting();
        }
        let finished = server.finish(config.drain.timeout).await;
        self.core.classifier.batcher.close();
        if finished {
            // What runs now ends by itself; a batch is never cut off in the middle.
            let joined = task::spawn_blocking(move || self.core.worker.join()).await;
            return joined.is_ok();
        }
        false
    }
}

/// Loads the session and proves with one run that it works.
fn load_engine(
    config: &Config,
    runtime: &Runtime,
    model: &ModelInfo,
    metrics: &Metrics,
) -> Result<OrtEngine, StartError> {
    let started = Instant::now();
    let options = SessionOptions {
        device: config.device,
        threads: config.threads,
        spin: threads::may_spin(),
        graph: model.graph(),
    };
    let manifest = &model.manifest;
    let mut engine = OrtEngine::load(runtime, manifest, &options)?;
    let loaded = started.elapsed();

    let started = Instant::now();
    let (height, width) = manifest.input_size();
    engine.run(&[&vec![0.0; 3 * height * width]])?;

    let device = engine.device();
    let precision = manifest.graph.precision;
    let architecture = &manifest.architecture.name;
    tracing::info!(%device, threads = config.threads, "device");
    tracing::info!(
        model = model.name,
        architecture,
        %precision,
        digest = short(&model.digest),
        directory = %Path::display(&model.directory),
        load_ms = loaded.as_millis() as u64,
        first_run_ms = started.elapsed().as_millis() as u64,
        "model"
    );
    metrics.describe_model(
        &model.name,
        architecture,
        &precision.to_string(),
        short(&model.digest),
        &device.to_string(),
    );
    Ok(engine)
}

/// Enough of a digest to recognise it by.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
