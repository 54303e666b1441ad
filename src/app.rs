//! Wires the parts together: from a [`Config`] to a running service.

use std::sync::Arc;

use axum::Router;
use tokio::{net::TcpListener, task};

use crate::{
    config::Config,
    engine::{EngineError, Runtime},
    http::{self, AppState, Easels, Readiness, UploadBudget},
    metrics::Metrics,
    registry::{Keeper, LoadError, Loader},
    server::{Server, Signals, Stop},
};

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A model cannot be served.
    #[error("model {name}: {why}")]
    Model {
        /// What it would have been called.
        name: String,
        /// What is wrong with it.
        why: LoadError,
    },
    /// The runtime does not work.
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

/// Models behind their routes.
#[derive(Debug)]
pub struct App {
    /// All routes.
    pub routes: Router,
    /// What `/readyz` says.
    pub readiness: Readiness,
    keeper: Keeper,
}

/// Loads every model and runs it once. Takes seconds for a large model and blocks the calling
/// thread.
///
/// # Errors
/// Whatever keeps a model from answering.
pub fn load_models(config: &Config, runtime: &Runtime) -> Result<Keeper, StartError> {
    let metrics = Arc::new(Metrics::new()?);
    metrics.describe_build(crate::VERSION, crate::COMMIT, runtime.version());
    let loader = Loader::new(config, runtime.clone(), metrics);
    Keeper::start(loader, &config.model, &config.more_models)
        .map_err(|(name, why)| StartError::Model { name, why })
}

impl App {
    /// Puts the models behind their routes, ready.
    pub fn new(keeper: Keeper, config: &Config) -> Self {
        let readiness = Readiness::default();
        let loader = keeper.loader();
        let routes = http::router(AppState {
            models: keeper.registry().clone(),
            store: loader.store().clone(),
            limits: config.http,
            readiness: readiness.clone(),
            keys: config.api_keys.clone(),
            uploads: UploadBudget::new(config.decode_memory),
            easels: Easels::new(config.threads),
            metrics: Arc::clone(loader.metrics()),
        });
        readiness.set(true);
        Self {
            routes,
            readiness,
            keeper,
        }
    }

    /// Serves until a signal, then drains; whether everything accepted was finished.
    pub async fn serve(self, listener: TcpListener, config: &Config, mut signals: Signals) -> bool {
        let server = Server::new(listener, self.routes);
        let stop = server
            .run(&mut signals, &self.readiness, config.drain.delay)
            .await;
        if stop == Stop::Now {
            self.keeper.refuse_waiting();
        }
        let finished = server.finish(config.drain.timeout).await;
        self.keeper.close();
        if finished {
            // What runs now ends by itself; a batch is never cut off in the middle.
            let joined = task::spawn_blocking(move || self.keeper.join()).await;
            return joined.is_ok();
        }
        false
    }
}
