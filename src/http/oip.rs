//! `/v2`: the Open Inference Protocol, for clients that are there already (KServe, Triton).
//!
//! Every model is served under three names ([`ModelVariant`]), and all of them go the way of
//! `POST /classify`: the same admission, deadlines, decode budget, batcher and limits. What goes
//! wrong is said as `{"error": …}` ([`oip_errors`](super::oip_errors)), which is what these clients
//! look for.

mod answers;
mod framing;
pub(crate) mod infer;
mod run;
mod target;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    answers::{IndexEntry, Live, ModelReady, Ready, ServerMetadata, Statistics},
    target::{ModelPath, versioned},
};
use super::{
    AppState,
    blocking_pool::BodyPool,
    openapi::{OIP, OipRefused},
};
use crate::{
    Result,
    batch::Deadline,
    oip::{
        EXTENSIONS, ModelConfig, ModelMetadata, ModelStatistics, ModelVariant, Target, VERSION,
        statistics::Described,
    },
    service::max_rows,
};

/// What the routes of `/v2` share, and the pool for the bodies of all routes. A handle; clones share
/// the content.
#[derive(Clone, Debug)]
pub struct Oip {
    /// How many bodies are parsed or written at a time.
    body_pool: BodyPool,
    /// What each name has done.
    statistics: Arc<Mutex<ByName>>,
}

/// By a model's own name and the variant.
type ByName = BTreeMap<(Arc<str>, ModelVariant), ModelStatistics>;

impl Oip {
    /// Bodies are worked on by at most so many threads.
    pub fn new(threads: usize) -> Self {
        Self {
            body_pool: BodyPool::new(threads),
            statistics: Arc::default(),
        }
    }

    /// Runs CPU work on a blocking thread, of which few work on bodies at a time.
    pub(super) async fn run_blocking<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.body_pool.run(deadline, work).await
    }

    /// Looks at or changes the counters of one name.
    pub(super) fn statistics<R>(
        &self,
        target: &Target,
        with: impl FnOnce(&mut ModelStatistics) -> R,
    ) -> R {
        let mut all = self
            .statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(&target.name), target.variant);
        with(all.entry(key).or_default())
    }
}

/// Routes for probes and discovery, which need no key.
pub(super) fn public_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::default()
        .routes(routes!(server))
        .route("/v2/", get(server))
        .routes(routes!(live))
        .routes(routes!(ready))
        .merge(versioned(routes!(model_ready)))
}

/// All other routes below `/v2`.
pub(super) fn keyed_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::default()
        .merge(versioned(routes!(metadata)))
        .merge(versioned(routes!(config)))
        .merge(versioned(routes!(statistics)))
        .merge(versioned(routes!(infer::infer)))
        .routes(routes!(all_statistics))
        .routes(routes!(index))
}

/// Name, version and extensions.
#[utoipa::path(
    get, path = "/v2", operation_id = "v2Server", tag = OIP,
    responses((status = 200, description = "Who answers.", body = ServerMetadata)),
)]
async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: env!("CARGO_PKG_NAME"),
        version: crate::VERSION,
        extensions: EXTENSIONS.to_vec(),
    })
}

/// The process answers.
#[utoipa::path(
    get, path = "/v2/health/live", operation_id = "v2Live", tag = OIP,
    responses((status = 200, description = "It does.", body = Live)),
)]
async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// New work should be sent here.
#[utoipa::path(
    get, path = "/v2/health/ready", operation_id = "v2Ready", tag = OIP,
    responses(
        (status = 200, description = "Yes.", body = Ready),
        (status = 503, description = "No.", body = Ready),
    ),
)]
async fn ready(State(state): State<AppState>) -> Response {
    let ready = state.readiness.get();
    (readiness_status(ready), Json(Ready { ready })).into_response()
}

/// New work should be sent to this model.
#[utoipa::path(
    get, path = "/v2/models/{model}/ready", operation_id = "v2ModelReady", tag = OIP,
    params(ModelPath),
    responses(
        (status = 200, description = "Yes.", body = ModelReady),
        OipRefused<400>, OipRefused<404>,
        (status = 503, description = "No.", body = ModelReady),
    ),
)]
async fn model_ready(State(state): State<AppState>, target: Target) -> Response {
    let ready = state.readiness.get();
    let name = target.display_name();
    (readiness_status(ready), Json(ModelReady { name, ready })).into_response()
}

fn readiness_status(ready: bool) -> StatusCode {
    match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The model's tensors.
#[utoipa::path(
    get, path = "/v2/models/{model}", operation_id = "v2Metadata", tag = OIP,
    params(ModelPath),
    responses(
        (status = 200, description = "Its tensors.", body = ModelMetadata, example = json!({
            "name": "demo_image", "versions": ["1"], "platform": "onnxruntime_onnx",
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": "logits", "datatype": "FP32", "shape": [-1, 12]},
                {"name": "rollout", "datatype": "FP32", "shape": [-1, 14, 14]},
            ],
        })),
        OipRefused<400>, OipRefused<404>,
    ),
)]
async fn metadata(target: Target) -> Json<ModelMetadata> {
    let model = &target.classifier.model;
    Json(ModelMetadata::new(target.variant, &target.name, model))
}

/// The model in the words of Triton's configuration.
#[utoipa::path(
    get, path = "/v2/models/{model}/config", operation_id = "v2Config", tag = OIP,
    params(ModelPath),
    responses(
        (status = 200, description = "Its configuration.", body = ModelConfig),
        OipRefused<400>, OipRefused<404>,
    ),
)]
async fn config(target: Target) -> Json<ModelConfig> {
    let model = &target.classifier.model;
    let max_rows = max_rows(&target.classifier);
    Json(ModelConfig::new(
        target.variant,
        &target.name,
        model,
        max_rows,
    ))
}

/// What this name has done since the program started.
#[utoipa::path(
    get, path = "/v2/models/{model}/stats", operation_id = "v2Statistics", tag = OIP,
    params(ModelPath),
    responses(
        (status = 200, description = "Its counters.", body = Statistics),
        OipRefused<400>, OipRefused<404>,
    ),
)]
async fn statistics(State(state): State<AppState>, target: Target) -> Json<Statistics> {
    Json(Statistics {
        model_stats: vec![described(&state, &target)],
    })
}

/// What every name has done since the program started.
#[utoipa::path(
    get, path = "/v2/models/stats", operation_id = "v2AllStatistics", tag = OIP,
    responses((status = 200, description = "All counters.", body = Statistics)),
)]
async fn all_statistics(State(state): State<AppState>) -> Json<Statistics> {
    let targets = Target::all(&state.service.models);
    Json(Statistics {
        model_stats: targets
            .iter()
            .map(|target| described(&state, target))
            .collect(),
    })
}

/// The counters of one name.
pub(super) fn described(state: &AppState, target: &Target) -> Described {
    let name = target.display_name();
    state
        .oip
        .statistics(target, |statistics| statistics.describe(name, VERSION))
}

/// Every name that can be asked.
#[utoipa::path(
    post, path = "/v2/repository/index", operation_id = "v2Index", tag = OIP,
    responses((status = 200, description = "All names.", body = Vec<IndexEntry>)),
)]
async fn index(State(state): State<AppState>) -> Json<Vec<IndexEntry>> {
    let entry = |target: &Target| IndexEntry {
        name: target.display_name(),
        version: VERSION,
        state: "READY",
        reason: "",
    };
    Json(
        Target::all(&state.service.models)
            .iter()
            .map(entry)
            .collect(),
    )
}
