//! Routes for probes and scrapers. None of them waits for the model.

use axum::{
    extract::{Extension, State},
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    AppState, Problem, RequestId,
    openapi::{OPERATION, Refused},
};
use crate::{
    Error,
    batch::DeviceState,
    classify::Classifier,
    metrics::{ModelState, ServingDevice},
};

/// The process answers.
///
/// Never false because of load.
#[utoipa::path(
    get, path = "/healthz", operation_id = "alive", tag = OPERATION,
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain")),
)]
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// New work should be sent here.
///
/// The model is warmed up and the server is not draining.
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = OPERATION,
    responses(
        (status = 200, description = "It should.", body = String, content_type = "text/plain"),
        Refused<503>,
    ),
)]
pub(super) async fn ready(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
) -> Response {
    match state.readiness.get() {
        true => "ready\n".into_response(),
        false => Problem::new(&Error::NotReady, &id).into_response(),
    }
}

/// All metrics in the Prometheus text format.
///
/// They move to the admin listener where there is one.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = OPERATION,
    responses(
        (status = 200, description = "All metrics.", body = String, content_type = "text/plain"),
        Refused<500>,
    ),
)]
pub(super) async fn metrics(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
) -> Response {
    let served = state.service.models.all();
    // A card's driver is asked for its memory, which may take it a moment.
    let described = tokio::task::spawn_blocking(|| {
        let served = served.into_iter();
        served.map(|(_, served)| describe(&served)).collect()
    });
    let models: Vec<ModelState> = match described.await {
        Ok(models) => models,
        Err(error) => {
            tracing::error!(%error, "the models could not be described");
            return Problem::new(&Error::Internal, &id).into_response();
        }
    };
    let results = state.service.models.default_model().results.clone();
    state
        .metrics
        .results_kept(results.map_or(0, |results| results.bytes()));
    state.metrics.ready(state.readiness.get());
    match state.metrics.encode(&models, state.store.len()) {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            Problem::new(&Error::Internal, &id).into_response()
        }
    }
}

/// A model as a scrape finds it.
fn describe(served: &Classifier) -> ModelState {
    let load = served.batcher.load();
    let devices = served.batcher.devices().into_iter();
    let serving = |state: DeviceState| ServingDevice {
        name: state.device.to_string(),
        up: state.up,
        batch_limit: state.batch_limit,
        memory: state.device.card_memory(),
    };
    ModelState {
        name: served.model.name.clone(),
        architecture: served.model.manifest.architecture.name.clone(),
        precision: served.model.manifest.graph.precision.to_string(),
        digest: served.model.short_digest().to_owned(),
        device: served.devices.to_string(),
        devices: devices.map(serving).collect(),
        waiting: load.waiting,
        predicted_wait: load.predicted_wait,
        batch_latencies: served.batcher.batch_latencies(),
    }
}
