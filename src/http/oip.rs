//! `/v2`: the Open Inference Protocol, for clients that are there already (KServe, Triton).
//!
//! Every model is met under three names ([`Face`]), and all of them go the way of `POST /classify`:
//! the same admission, deadlines, decode budget, batcher and limits. What goes wrong is said as
//! `{"error": …}` ([`errors`]), which is what these clients look for.

mod asked;
mod coding;
mod errors;
mod infer;
mod target;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(super) use self::errors::reworded;
use self::target::Target;
use super::{AppState, auth, upload};
use crate::{
    classify::Classifier,
    oip::{EXTENSIONS, Face, ModelStatistics, VERSION},
};

/// What the routes of `/v2` share. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct Oip {
    /// How many bodies are taken apart or put together at a time.
    desks: Arc<Semaphore>,
    /// What each name has done.
    statistics: Arc<Mutex<ByName>>,
}

/// By a model's own name and the face.
type ByName = BTreeMap<(Arc<str>, Face), ModelStatistics>;

impl Oip {
    /// Bodies are worked on by at most so many threads.
    pub fn new(threads: usize) -> Self {
        Self {
            desks: Arc::new(Semaphore::new(threads.max(1))),
            statistics: Arc::default(),
        }
    }

    /// Looks at or changes the counters of one name.
    fn statistics<R>(&self, target: &Target, with: impl FnOnce(&mut ModelStatistics) -> R) -> R {
        let mut all = self
            .statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(&target.name), target.face);
        with(all.entry(key).or_default())
    }
}

/// All routes below `/v2`.
pub(super) fn routes(state: &AppState) -> Router<AppState> {
    let model = |rest: &str| {
        [
            format!("/v2/models/{{model}}{rest}"),
            format!("/v2/models/{{model}}/versions/{{version}}{rest}"),
        ]
    };
    let mut keyed = Router::new()
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/repository/index", post(index));
    for route in model("") {
        keyed = keyed.route(&route, get(metadata));
    }
    for route in model("/config") {
        keyed = keyed.route(&route, get(config));
    }
    for route in model("/stats") {
        keyed = keyed.route(&route, get(statistics));
    }
    for route in model("/infer") {
        keyed = keyed.route(&route, post(infer::infer));
    }
    let keyed = keyed.route_layer(middleware::from_fn_with_state(
        state.clone(),
        auth::require_key,
    ));
    // Probes and the greeting want no key, as elsewhere.
    let mut open = Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready));
    for route in model("/ready") {
        open = open.route(&route, get(model_ready));
    }
    keyed.merge(open)
}

/// Whether a path belongs to the protocol, known or not.
pub(super) fn is_below(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// How many rows one request may have.
fn most_rows(classifier: &Classifier) -> usize {
    classifier.batcher.max_batch().max(upload::MOST_PICTURES)
}

/// `GET /v2`: who answers, and what of the protocol's extensions it speaks.
async fn server() -> Json<Value> {
    Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": crate::VERSION,
        "extensions": EXTENSIONS,
    }))
}

/// `GET /v2/health/live`: the process answers.
async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

/// `GET /v2/health/ready`: new work should be sent here. Not 200 stands for no.
async fn ready(State(state): State<AppState>) -> Response {
    let ready = state.readiness.get();
    (said(ready), Json(json!({"ready": ready}))).into_response()
}

/// `GET /v2/models/{model}/ready`: the same of one model.
async fn model_ready(State(state): State<AppState>, target: Target) -> Response {
    let ready = state.readiness.get();
    let body = json!({"name": target.shown(), "ready": ready});
    (said(ready), Json(body)).into_response()
}

fn said(ready: bool) -> StatusCode {
    match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `GET /v2/models/{model}`: its tensors.
async fn metadata(target: Target) -> Json<Value> {
    let model = &target.classifier.model;
    Json(target.face.metadata(&target.name, &model.manifest))
}

/// `GET /v2/models/{model}/config`: the same as Triton configures models, with the largest batch.
async fn config(target: Target) -> Json<Value> {
    let model = &target.classifier.model;
    let most = most_rows(&target.classifier);
    Json(target.face.config(&target.name, &model.manifest, most))
}

/// `GET /v2/models/{model}/stats`: what it has done since the program started.
async fn statistics(State(state): State<AppState>, target: Target) -> Json<Value> {
    Json(json!({"model_stats": [described(&state, &target)]}))
}

/// `GET /v2/models/stats`: the same of all.
async fn all_statistics(State(state): State<AppState>) -> Json<Value> {
    let described: Vec<Value> = Target::all(&state)
        .iter()
        .map(|target| described(&state, target))
        .collect();
    Json(json!({"model_stats": described}))
}

fn described(state: &AppState, target: &Target) -> Value {
    let name = target.shown();
    state.oip.statistics(target, |statistics| {
        json!(statistics.describe(name, VERSION))
    })
}

/// `POST /v2/repository/index`: every name that can be asked.
async fn index(State(state): State<AppState>) -> Json<Value> {
    let entry = |target: &Target| json!({"name": target.shown(), "version": VERSION, "state": "READY", "reason": ""});
    Json(Target::all(&state).iter().map(entry).collect())
}
