//! What probes and scrapers ask for. None of it waits for the model.

use axum::{
    extract::{Extension, State},
    http::header,
    response::{IntoResponse, Response},
};

use super::{AppState, Problem, RequestId};
use crate::{Error, metrics::ModelState};

/// `GET /healthz`: the process answers. Never false because of load.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: the model is warmed up and the server is not draining.
pub(super) async fn ready(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
) -> Response {
    match state.readiness.get() {
        true => "ready\n".into_response(),
        false => Problem::new(&Error::NotReady, &id).into_response(),
    }
}

/// `GET /metrics`: the Prometheus text format.
pub(super) async fn metrics(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
) -> Response {
    let models: Vec<ModelState> = state
        .models
        .all()
        .into_iter()
        .map(|(name, served)| ModelState {
            name: name.to_string(),
            architecture: served.model.manifest.architecture.name.clone(),
            precision: served.model.manifest.graph.precision.to_string(),
            digest: served.model.short_digest().to_owned(),
            device: served.device.to_string(),
            load: served.batcher.load(),
            curve: served.batcher.curve(),
        })
        .collect();
    let results = state.models.default_model().results.clone();
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
        Err(why) => {
            tracing::error!(%why, "metrics could not be written");
            Problem::new(&Error::Internal, &id).into_response()
        }
    }
}
