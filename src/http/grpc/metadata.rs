//! The short calls of the Open Inference Protocol: health, readiness, metadata, statistics.

use axum::{
    Router,
    extract::{Extension, Request, State},
    response::Response,
    routing::post,
};

use super::unary;
use crate::{
    Result,
    http::{AppState, oip::described},
    oip::{
        EXTENSIONS, ModelConfig, ModelMetadata, Target, VERSION,
        proto::{
            Empty, ModelConfigResponse, ModelIndex, ModelMetadataResponse, ModelRequest,
            ModelStatisticsResponse, ReadyResponse, RepositoryIndexResponse, ServerLiveResponse,
            ServerMetadataResponse,
        },
    },
    service::{Caller, max_rows},
};

/// Calls for probes and discovery, which need no key; the same as over HTTP.
pub(super) fn public_routes() -> Router<AppState> {
    Router::new()
        .route("/inference.GRPCInferenceService/ServerLive", post(live))
        .route("/inference.GRPCInferenceService/ServerReady", post(ready))
        .route(
            "/inference.GRPCInferenceService/ModelReady",
            post(model_ready),
        )
        .route(
            "/inference.GRPCInferenceService/ServerMetadata",
            post(server),
        )
}

/// All other short calls.
pub(super) fn keyed_routes() -> Router<AppState> {
    Router::new()
        .route(
            "/inference.GRPCInferenceService/ModelMetadata",
            post(metadata),
        )
        .route("/inference.GRPCInferenceService/ModelConfig", post(config))
        .route(
            "/inference.GRPCInferenceService/ModelStatistics",
            post(statistics),
        )
        .route(
            "/inference.GRPCInferenceService/RepositoryIndex",
            post(index),
        )
}

/// The model that a message names.
pub(super) fn target(state: &AppState, name: &str, version: &str) -> Result<Target> {
    let version = Some(version).filter(|version| !version.is_empty());
    Target::find(&state.service.models, name, version)
}

async fn live(State(state): State<AppState>, request: Request) -> Response {
    let answer = |_: Empty| Ok(ServerLiveResponse { live: true });
    unary(&state, None, request, answer).await
}

async fn ready(State(state): State<AppState>, request: Request) -> Response {
    let ready = state.readiness.get();
    unary(&state, None, request, |_: Empty| {
        Ok(ReadyResponse { ready })
    })
    .await
}

async fn model_ready(State(state): State<AppState>, request: Request) -> Response {
    let answer = |model: ModelRequest| {
        target(&state, &model.name, &model.version)?;
        let ready = state.readiness.get();
        Ok(ReadyResponse { ready })
    };
    unary(&state, None, request, answer).await
}

async fn server(State(state): State<AppState>, request: Request) -> Response {
    let answer = |_: Empty| {
        Ok(ServerMetadataResponse {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: crate::VERSION.to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        })
    };
    unary(&state, None, request, answer).await
}

async fn metadata(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let answer = |model: ModelRequest| {
        let target = target(&state, &model.name, &model.version)?;
        let model = &target.classifier.model;
        let metadata = ModelMetadata::new(target.variant, &target.name, model);
        Ok(ModelMetadataResponse::from(metadata))
    };
    unary(&state, Some(&caller), request, answer).await
}

async fn config(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let answer = |model: ModelRequest| {
        let target = target(&state, &model.name, &model.version)?;
        let max_rows = max_rows(&target.classifier);
        let model = &target.classifier.model;
        let config = ModelConfig::new(target.variant, &target.name, model, max_rows);
        Ok(ModelConfigResponse {
            config: Some(config.into()),
        })
    };
    unary(&state, Some(&caller), request, answer).await
}

async fn statistics(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let answer = |model: ModelRequest| {
        let targets = match model.name.as_str() {
            "" => Target::all(&state.service.models),
            name => vec![target(&state, name, &model.version)?],
        };
        let targets = targets.iter();
        Ok(ModelStatisticsResponse {
            model_stats: targets
                .map(|target| described(&state, target).into())
                .collect(),
        })
    };
    unary(&state, Some(&caller), request, answer).await
}

async fn index(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let entry = |target: &Target| ModelIndex {
        name: target.display_name(),
        version: VERSION.to_owned(),
        state: "READY".to_owned(),
        reason: String::new(),
    };
    let answer = |_: Empty| {
        let models = Target::all(&state.service.models);
        let models = models.iter().map(entry).collect();
        Ok(RepositoryIndexResponse { models })
    };
    unary(&state, Some(&caller), request, answer).await
}
