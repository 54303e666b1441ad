//! The routes, and what every request passes.
//!
//! From the outside in: [`observe`](self) names the request, counts and times it and writes one log
//! line; a caught panic becomes a 500; then the route. Every error, also the router's own and that
//! of a panic, leaves as `application/problem+json` ([`problem`]).

mod attention;
mod auth;
mod classify;
mod health;
mod negotiate;
mod page;
mod problem;
mod query;
mod request_id;
mod upload;

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use tracing::Instrument;

pub use self::{
    attention::Easels, auth::KeyRing, problem::Problem, request_id::RequestId, upload::UploadBudget,
};
use crate::{Error, metrics::Metrics, registry::Registry, store::Store};

/// What a body may measure and how long things may take.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of one request's body.
    pub max_body: u64,
    /// How long a body may take to arrive.
    pub upload_timeout: Duration,
    /// How long a request has, unless it asks for less.
    pub request_timeout: Duration,
}

/// Everything the routes share.
#[derive(Clone, Debug)]
pub struct AppState {
    /// The models and the way to them.
    pub models: Registry,
    /// Where maps are, whichever model made them.
    pub store: Store,
    /// Bounds of requests.
    pub limits: HttpLimits,
    /// Whether new work should be sent here.
    pub readiness: Readiness,
    /// Whoever brings one of these may ask; everyone, without.
    pub keys: Option<KeyRing>,
    /// Memory for bodies.
    pub uploads: UploadBudget,
    /// Where maps are drawn.
    pub easels: Easels,
    /// Counts and times everything.
    pub metrics: Arc<Metrics>,
}

/// Whether new work should be sent here: set once warmed up, unset when draining.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Changes the answer of `/readyz`.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// The current answer.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// All routes of the service.
pub fn router(state: AppState) -> Router {
    // What costs something or holds somebody's picture wants a key, where keys are asked for.
    let keyed = Router::new()
        .route("/classify", post(classify::classify))
        .route(
            "/attention/{id}",
            get(attention::show).delete(attention::forget),
        )
        .route_layer(middleware::from_fn_with_state(
            state.clone(),
            auth::require_key,
        ));
    Router::new()
        .merge(keyed)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .merge(page::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state.clone())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(middleware::from_fn_with_state(state, observe))
}

/// Names, times, counts and logs a request. The route's template, never the path, is used: paths
/// hold map ids, which are secrets.
async fn observe(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = state.metrics.in_flight();
    let id = RequestId::of(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let method = request.method().clone();
    let span = tracing::info_span!("request", request_id = %id, %method, route);
    request.extensions_mut().insert(id.clone());

    let mut response = next.run(request).instrument(span.clone()).await;

    if response.extensions().get::<Panicked>().is_some() {
        response = Problem::new(&Error::Internal, &id).into_response();
    }
    if let Some(value) = id.header() {
        response.headers_mut().insert(request_id::HEADER, value);
    }
    let status = response.status().as_u16();
    let took = started.elapsed();
    state.metrics.request(route, status, took);
    // Probes and scrapes come every few seconds and say nothing.
    if !matches!(route, "/healthz" | "/readyz" | "/metrics") {
        span.in_scope(|| tracing::info!(status, ms = took.as_secs_f64() * 1000.0, "answered"));
    }
    response
}

/// Marks the answer of a caught panic, for [`observe`] to give it its form and name.
#[derive(Clone, Copy)]
struct Panicked;

fn panicked(why: Box<dyn Any + Send>) -> Response {
    let text = why
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| why.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(why = text, "a request handler panicked");
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(Panicked);
    response
}

async fn not_found(request: Request) -> Problem {
    let detail = "there is nothing here; the routes are GET /, POST /classify, GET /attention/{id}, \
                  GET /healthz, GET /readyz and GET /metrics";
    Problem::of_routing(StatusCode::NOT_FOUND, detail, &request_id(&request))
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} is not allowed here", request.method());
    Problem::of_routing(
        StatusCode::METHOD_NOT_ALLOWED,
        &detail,
        &request_id(&request),
    )
}

/// The id that [`observe`] gave.
fn request_id(request: &Request) -> RequestId {
    request
        .extensions()
        .get::<RequestId>()
        .cloned()
        .unwrap_or_else(|| RequestId::of(request.headers()))
}
