//! Wires the parts together: from a [`Config`] to a running service.

use std::{sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    config::Config,
    engine::{EngineError, Runtime},
    http::{self, AppState, Easels, Oip, Readiness, UploadBudget},
    metrics::Metrics,
    registry::{Keeper, LoadError, Loader},
    server::{Hangups, Server, Signals, Stop},
    verify::{Jobs, TableLimits},
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
    /// The routes of the service.
    pub routes: Router,
    /// The routes of the admin listener, if there is one.
    pub admin: Option<Router>,
    /// What `/readyz` says.
    pub readiness: Readiness,
    keeper: Keeper,
}

/// How long answers have to leave when an engine is broken.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How serving ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Everything that was accepted was finished.
    Finished,
    /// Something took longer than the drain's time-out.
    CutOff,
    /// An engine is broken and could not be made anew.
    Broken,
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
        let state = AppState {
            models: keeper.registry().clone(),
            store: loader.store().clone(),
            limits: config.http,
            readiness: readiness.clone(),
            keys: config.api_keys.clone(),
            cors: config.cors.clone(),
            hosts: Arc::new(config.allowed_hosts.clone()),
            uploads: UploadBudget::new(config.decode_memory),
            easels: Easels::new(config.threads, config.http.request_timeout),
            verify: config.allow_verify.then(|| {
                Jobs::new(
                    TableLimits::new(config.store.ttl),
                    Arc::clone(loader.metrics()),
                )
            }),
            oip: Oip::new(config.threads),
            metrics: Arc::clone(loader.metrics()),
            metrics_apart: config.admin_listen.is_some(),
        };
        let admin = config
            .admin_listen
            .map(|_| http::admin_router(state.clone(), keeper.clone()));
        let routes = http::router(state);
        readiness.set(true);
        Self {
            routes,
            admin,
            readiness,
            keeper,
        }
    }

    /// Serves until a signal, then drains; or until an engine is beyond repair. The admin listener
    /// answers to the end.
    pub async fn serve(self, listeners: Listeners, config: &Config, mut signals: Signals) -> End {
        let admin = self.admin.zip(listeners.admin);
        let admin =
            admin.map(|(routes, listener)| Server::new(listener, routes, config.tls.clone()));
        let _admin = admin.map(|admin| Background::run(async move { admin.accept().await }));
        let keeper = self.keeper.clone();
        let _reloads = Background::run(async move {
            let mut hangups = listeners.hangups;
            loop {
                hangups.next().await;
                keeper.reload_changed().await;
            }
        });

        let server = Server::new(listeners.service, self.routes, config.tls.clone());
        let alarm = self.keeper.loader().alarm().clone();
        let stop = tokio::select! {
            stop = server.run(&mut signals, &self.readiness, config.drain.delay) => Some(stop),
            () = alarm.rung() => None,
        };
        let limit = match stop {
            Some(_) => config.drain.timeout,
            None => LAST_ANSWERS,
        };
        if stop != Some(Stop::Drain) {
            self.readiness.set(false);
            self.keeper.refuse_waiting();
        }
        let finished = server.finish(limit).await;
        self.keeper.close();
        if stop.is_none() {
            return End::Broken;
        }
        if finished {
            // What runs now ends by itself; a batch is never cut off in the middle.
            self.keeper.finish().await;
            return End::Finished;
        }
        End::CutOff
    }
}

/// What reaches the program from outside, opened before the models are loaded.
#[derive(Debug)]
pub struct Listeners {
    /// Where clients connect.
    pub service: TcpListener,
    /// Where administrators do.
    pub admin: Option<TcpListener>,
    /// Wishes to look at the model directories again.
    pub hangups: Hangups,
}

/// A task that ends with its owner.
struct Background(JoinHandle<()>);

impl Background {
    fn run(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}
