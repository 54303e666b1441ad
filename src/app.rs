//! Wires the parts together: from a [`Config`] to a running service.

use std::{sync::Arc, time::Duration};

use axum::Router;
use patchlight_engine::{EngineError, Runtime};
use patchlight_import::CancelFlag;
use tokio::{
    net::TcpListener,
    task,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    args::ServeArgs,
    config::{Config, ConfigError},
    http::{self, AppState, Grpc, Oip, RenderPool},
    image_fetch::ImageFetcher,
    metrics::Metrics,
    readiness::Readiness,
    registry::{LoadError, Loader, ModelDir, ModelManager},
    request_log::RequestLog,
    server::{ReloadSignals, Server, Signals, Stop, Tls},
    service::{KeyRing, Service},
    verify::{JobLimits, Jobs},
};

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A model cannot be served.
    #[error("model {name}: {error}")]
    Model {
        /// What it would have been called.
        name: String,
        /// What is wrong with it.
        error: LoadError,
    },
    /// There is nothing to serve.
    #[error("no model is named")]
    NoModel,
    /// The runtime does not work.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system has no threads or no signals for us.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The request log cannot be written.
    #[error("--request-log {target}: {error}")]
    RequestLog {
        /// As configured.
        target: String,
        /// What the system said.
        error: std::io::Error,
    },
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
    /// The routes of the listener for gRPC alone, if there is one.
    pub grpc: Option<Router>,
    /// What `/readyz` says.
    pub readiness: Readiness,
    tls: Option<Tls>,
    manager: ModelManager,
}

/// What was read from the files that the flags name.
#[derive(Clone, Debug)]
pub struct Files {
    /// A request needs one of these; none is needed without them.
    pub api_keys: Option<KeyRing>,
    /// The certificate, for HTTPS.
    pub tls: Option<Tls>,
}

/// How long answers may still be sent after an engine has failed for good.
const ENGINE_FAILURE_GRACE: Duration = Duration::from_secs(1);

/// How long the last events of the request log may take.
const REQUEST_LOG_GRACE: Duration = Duration::from_secs(3);

/// How serving ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServeOutcome {
    /// Everything that was accepted was finished.
    Finished,
    /// The drain timed out: something was still running.
    DrainTimedOut,
    /// An engine is broken and could not be rebuilt.
    EngineFailed,
}

/// Reads the flags of `serve` and opens the files that they name.
///
/// # Errors
/// Every fault of the flags and of the files, not just the first.
pub fn configure(args: &ServeArgs) -> Result<(Config, Files), ConfigError> {
    Config::with_files(args, |names, faults| {
        let api_keys = names.api_keys.as_deref().map(KeyRing::load).transpose();
        let api_keys = faults.take("--api-key-file", api_keys);
        let tls = names.tls.as_ref();
        let tls = tls.map(|(certificate, key)| Tls::load(certificate, key));
        let tls = faults.take("--tls-cert", tls.transpose());
        Some(Files {
            api_keys: api_keys?,
            tls: tls?,
        })
    })
}

/// Has every model on this machine: those that are named by an address are fetched and imported,
/// unless that was done before. May take minutes and blocks the calling thread.
///
/// # Errors
/// The first model that cannot be had, by name; or that it was cancelled.
pub fn fetch_models(
    config: &Config,
    runtime: &Runtime,
    cancel: &CancelFlag,
) -> Result<Vec<ModelDir>, StartError> {
    let named = std::iter::once(&config.model).chain(&config.more_models);
    let fetched = named.map(|model| {
        let (source, device) = (&model.source, config.devices.first());
        let directory = config
            .sources
            .model_dir(source, device, Some(runtime), cancel);
        let directory = directory.map_err(|error| StartError::Model {
            name: model.name.clone(),
            error: error.into(),
        })?;
        Ok(ModelDir {
            name: model.name.clone(),
            directory,
        })
    });
    fetched.collect()
}

/// Loads every model and runs it once. Takes seconds for a large model and blocks the calling
/// thread.
///
/// # Errors
/// Whatever keeps a model from answering.
pub fn load_models(
    config: &Config,
    models: &[ModelDir],
    runtime: &Runtime,
) -> Result<ModelManager, StartError> {
    let (first, others) = models.split_first().ok_or(StartError::NoModel)?;
    let metrics = Arc::new(Metrics::new()?);
    metrics.describe_build(crate::VERSION, crate::COMMIT, runtime.version());
    let request_log = match &config.request_log {
        Some(settings) => RequestLog::start(settings, Arc::clone(&metrics)).map_err(|error| {
            StartError::RequestLog {
                target: settings.target.to_string(),
                error,
            }
        })?,
        None => RequestLog::default(),
    };
    let loader = Loader::new(config, runtime.clone(), request_log, metrics);
    ModelManager::start(loader, first, others)
        .map_err(|(name, error)| StartError::Model { name, error })
}

impl App {
    /// Puts the models behind their routes, ready.
    pub fn new(manager: ModelManager, config: &Config, files: &Files) -> Self {
        let readiness = Readiness::default();
        let loader = manager.loader();
        let service = Service::new(
            manager.registry().clone(),
            config.limits,
            files.api_keys.clone(),
            config.decode_memory,
            Arc::clone(loader.metrics()),
        );
        let state = AppState {
            service,
            store: loader.store().clone(),
            readiness: readiness.clone(),
            cors: config.cors.clone(),
            hosts: Arc::new(config.allowed_hosts.clone()),
            image_fetcher: ImageFetcher::new(
                config.fetch_from.clone(),
                config.limits.max_body,
                Arc::clone(loader.metrics()),
            ),
            render_pool: RenderPool::new(config.threads, config.limits.request_timeout),
            verify: config.allow_verify.then(|| {
                Jobs::new(
                    JobLimits::new(config.store.ttl),
                    Arc::clone(loader.metrics()),
                )
            }),
            oip: Oip::new(config.threads),
            grpc: Grpc::new(config.keep_alive, config.drain.delay),
            metrics: Arc::clone(loader.metrics()),
            metrics_on_admin: config.admin_listen.is_some(),
        };
        let admin = config
            .admin_listen
            .map(|_| http::admin_router(state.clone(), manager.clone()));
        let grpc = config.grpc_listen.map(|_| http::grpc_router(state.clone()));
        let routes = http::router(state);
        readiness.set(true);
        Self {
            routes,
            admin,
            grpc,
            readiness,
            tls: files.tls.clone(),
            manager,
        }
    }

    /// Serves until a signal, then drains; or until an engine is beyond repair. The admin listener
    /// answers to the end.
    pub async fn serve(
        self,
        listeners: Listeners,
        config: &Config,
        signals: Signals,
    ) -> ServeOutcome {
        let request_log = self.manager.loader().request_log().clone();
        let outcome = self.serve_requests(listeners, config, signals).await;
        let written = task::spawn_blocking(move || request_log.finish(REQUEST_LOG_GRACE));
        // It does not panic, and nobody aborts it.
        let _ = written.await;
        outcome
    }

    async fn serve_requests(
        self,
        listeners: Listeners,
        config: &Config,
        mut signals: Signals,
    ) -> ServeOutcome {
        let admin = self.admin.zip(listeners.admin);
        let server =
            |listener, routes| Server::new(listener, routes, self.tls.clone(), config.keep_alive);
        let admin = admin.map(|(routes, listener)| server(listener, routes));
        let _admin = admin
            .map(|admin| AbortOnDropHandle::new(tokio::spawn(async move { admin.accept().await })));
        let manager = self.manager.clone();
        let mut reload_signals = listeners.reload_signals;
        let _reloads = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                reload_signals.next().await;
                manager.reload_changed().await;
            }
        }));

        let grpc = self.grpc.zip(listeners.grpc);
        let grpc = grpc.map(|(routes, listener)| server(listener, routes));
        let server = server(listeners.service, self.routes);
        let accepting_grpc = async {
            match &grpc {
                Some(grpc) => grpc.accept().await,
                None => std::future::pending().await,
            }
        };
        let fatal = self.manager.loader().fatal().clone();
        let stop = tokio::select! {
            stop = server.run(&mut signals, &self.readiness, config.drain.delay) => Some(stop),
            () = fatal.raised() => None,
            // It accepts as long as the other does.
            () = accepting_grpc => None,
        };
        let limit = match stop {
            Some(_) => config.drain.timeout,
            None => ENGINE_FAILURE_GRACE,
        };
        if stop != Some(Stop::Drain) {
            self.readiness.set(false);
            self.manager.refuse_waiting();
        }
        let end = Instant::now() + limit;
        self.manager.cancel_background();
        let drain_grpc = async {
            match grpc {
                Some(grpc) => grpc.drain(limit).await,
                None => true,
            }
        };
        let (http_finished, grpc_finished) = tokio::join!(server.drain(limit), drain_grpc);
        let finished = http_finished && grpc_finished;
        self.manager.close();
        // Perhaps only while what was accepted was being finished.
        if fatal.is_rung() {
            return ServeOutcome::EngineFailed;
        }
        if finished {
            // What runs now has no client any more and ends by itself, within the same limit: a
            // batch, or a model being loaded.
            if timeout_at(end, self.manager.finish()).await.is_err() {
                tracing::warn!(?limit, "not waiting longer for what still runs");
            }
            return ServeOutcome::Finished;
        }
        ServeOutcome::DrainTimedOut
    }
}

/// Sockets and signals, opened before the models are loaded.
#[derive(Debug)]
pub struct Listeners {
    /// Where clients connect.
    pub service: TcpListener,
    /// Where clients of gRPC do, if they have a listener of their own.
    pub grpc: Option<TcpListener>,
    /// Where administrators do.
    pub admin: Option<TcpListener>,
    /// SIGHUP: look for changed model directories.
    pub reload_signals: ReloadSignals,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn faults_of_flags_and_of_files_are_reported_at_once() {
        let typed = [
            "patchlight",
            "--model=somewhere",
            "--threads=0",
            "--api-key-file=/nowhere/keys",
            "--tls-cert=/nowhere/certificate",
            "--tls-key=/nowhere/key",
        ];
        let args = Cli::try_parse_from(typed).unwrap().serve;
        let found = configure(&args).unwrap_err().to_string();
        for flag in ["--threads", "--api-key-file", "--tls-cert"] {
            assert!(found.contains(flag), "{flag} is missing in\n{found}");
        }
    }
}
