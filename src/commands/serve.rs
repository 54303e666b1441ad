//! `patchlight serve`.

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use patchlight_engine::Runtime;
use patchlight_import::CancelFlag;
use tokio::{
    net::TcpListener,
    runtime,
    task::{self, JoinSet},
};

use super::{BAD_CONFIGURATION, fail};
use crate::{
    app::{self, App, Files, Listeners, ServeOutcome, StartError},
    args::{ServeArgs, default_file},
    config::Config,
    registry::ModelDir,
    server::{ReloadSignals, Signals},
    telemetry,
};

/// How long threads may take to end whose result is not waited for. Some may never, such as one
/// that reads a file of a network that is away.
const LAST_THREADS: Duration = Duration::from_secs(1);

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    if args.print_config {
        return match io::stdout().write_all(default_file().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, error),
        };
    }
    let (config, files) = match app::configure(args) {
        Ok(configured) => configured,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    // Until the end, for the spans that are still to be sent.
    let _installed =
        match telemetry::install(config.log_format, &config.log, config.traces.as_ref()) {
            Ok(installed) => installed,
            Err(error) => return fail(BAD_CONFIGURATION, error),
        };
    let workers = runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .enable_all()
        .build();
    let outcome = match workers {
        Ok(workers) => {
            let outcome = workers.block_on(serve(&config, &files));
            workers.shutdown_timeout(LAST_THREADS);
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(ServeOutcome::Finished) => ExitCode::SUCCESS,
        Ok(ServeOutcome::DrainTimedOut) => fail(
            1,
            "stopped before everything that was accepted was finished",
        ),
        Ok(ServeOutcome::EngineFailed) => fail(1, "the engine is broken; the log says how"),
        Err(error) => fail(1, error),
    }
}

async fn serve(config: &Config, files: &Files) -> Result<ServeOutcome, StartError> {
    // Before the model is loaded, so that a signal during the load is not lost.
    let mut signals = Signals::listen()?;
    let reload_signals = ReloadSignals::listen()?;
    tracing::info!(
        version = crate::VERSION,
        commit = crate::COMMIT,
        "patchlight"
    );
    let runtime = Runtime::load()?;
    tracing::info!(version = runtime.version(), library = %runtime.library().display(), "onnxruntime");
    // Before the load as well: a busy port is found out in milliseconds, not after a minute.
    let service = bind(config.listen).await?;
    let address = service.local_addr()?;
    let grpc = match config.grpc_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let admin = match config.admin_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };

    let models = fetch(config, &runtime, &mut signals).await?;
    let manager = task::block_in_place(|| app::load_models(config, &models, &runtime))?;
    let app = App::new(manager, config, files);
    let scheme = if files.tls.is_some() { "https" } else { "http" };
    if let Some(admin) = &admin {
        tracing::info!("administration on {scheme}://{}", admin.local_addr()?);
    }
    if let Some(grpc) = &grpc {
        tracing::info!("gRPC on {}", grpc.local_addr()?);
    }
    tracing::info!("listening on {scheme}://{address}");
    // Files that are followed while serving; dropping the set ends that.
    let mut watches = JoinSet::new();
    if let Some(keys) = files.api_keys.clone() {
        watches.spawn(keys.watch());
    }
    if let Some(keys) = config.store.keys() {
        watches.spawn(keys.watch());
    }
    if let Some(tls) = files.tls.clone() {
        watches.spawn(tls.watch());
    }
    let listeners = Listeners {
        service,
        grpc,
        admin,
        reload_signals,
    };
    Ok(app.serve(listeners, config, signals).await)
}

/// Has every model on this machine. A signal ends it: what was downloaded is kept.
async fn fetch(
    config: &Config,
    runtime: &Runtime,
    signals: &mut Signals,
) -> Result<Vec<ModelDir>, StartError> {
    let cancel = CancelFlag::default();
    let (settings, runtime, flag) = (config.clone(), runtime.clone(), cancel.clone());
    let mut fetching = task::spawn_blocking(move || app::fetch_models(&settings, &runtime, &flag));
    let fetched = tokio::select! {
        fetched = &mut fetching => fetched,
        _ = signals.next() => {
            cancel.cancel();
            fetching.await
        }
    };
    fetched.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Listen { address, error })
}
