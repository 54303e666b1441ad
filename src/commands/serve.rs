//! `patchlight serve`.

use std::process::ExitCode;

use tokio::{net::TcpListener, runtime};

use super::{BAD_CONFIGURATION, fail};
use crate::{
    app::{self, App, StartError},
    args::ServeArgs,
    config::Config,
    engine::Runtime,
    server::Signals,
    telemetry,
};

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    let config = match Config::from_args(args) {
        Ok(config) => config,
        Err(why) => return fail(BAD_CONFIGURATION, why),
    };
    if let Err(why) = telemetry::install(config.log_format, &config.log) {
        return fail(BAD_CONFIGURATION, why);
    }
    let workers = runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .enable_all()
        .build();
    let outcome = match workers {
        Ok(workers) => workers.block_on(serve(&config)),
        Err(why) => Err(why.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail(
            1,
            "stopped before everything that was accepted was finished",
        ),
        Err(why) => fail(1, why),
    }
}

async fn serve(config: &Config) -> Result<bool, StartError> {
    // Before the model is loaded, so that a signal during the load is not lost.
    let signals = Signals::listen()?;
    tracing::info!(
        version = crate::VERSION,
        commit = crate::COMMIT,
        "patchlight"
    );
    let runtime = Runtime::load()?;
    tracing::info!(version = runtime.version(), library = %runtime.library().display(), "onnxruntime");
    // Before the load as well: a busy port is found out in milliseconds, not after a minute.
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|why| StartError::Listen {
            address: config.listen,
            why,
        })?;
    let address = listener.local_addr()?;

    let keeper = tokio::task::block_in_place(|| app::load_models(config, &runtime))?;
    let app = App::new(keeper, config);
    tracing::info!("listening on http://{address}");
    let api_keys = config.api_keys.clone();
    let watches = [
        api_keys.map(|keys| tokio::spawn(keys.watch())),
        config.store.keys().map(|keys| tokio::spawn(keys.watch())),
    ];
    let finished = app.serve(listener, config, signals).await;
    for watch in watches.into_iter().flatten() {
        watch.abort();
    }
    Ok(finished)
}
