//! The routes, and what every request passes.
//!
//! From the outside in: [`observe`](self) names the request, counts and times it and writes one log
//! line; a body that nobody wants is read on for a moment ([`linger`]); a name that is not ours is
//! refused ([`hosts`]); a caught panic becomes a
//! 500; then the route. Every error, also the router's own and that
//! of a panic, leaves as `application/problem+json` ([`problem`]).

mod admin;
mod attention;
mod auth;
mod classify;
mod cors;
mod health;
mod hosts;
mod linger;
mod negotiate;
pub(crate) mod oip;
mod openapi;
mod page;
mod problem;
mod query;
mod request_id;
mod request_timeout;
mod server_timing;
mod trace_context;
pub(crate) mod upload;
mod verify;

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
    http::{HeaderValue, StatusCode, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use tracing::{Instrument, field::Empty};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{
    admin::admin_router, attention::Easels, auth::KeyRing, cors::CorsOrigins, hosts::AllowedHosts,
    oip::Oip, problem::Problem, request_id::RequestId, upload::UploadBudget,
};
use crate::{
    Error, escape::Excerpt, metrics::Metrics, registry::Registry, store::Store, telemetry,
    verify::Jobs,
};

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
    /// Pages from elsewhere that may ask.
    pub cors: Option<CorsOrigins>,
    /// The names that requests may call the server by.
    pub hosts: Arc<AllowedHosts>,
    /// Memory for bodies.
    pub uploads: UploadBudget,
    /// Where maps are drawn.
    pub easels: Easels,
    /// Perturbation tests of kept maps, where they are allowed.
    pub verify: Option<Jobs>,
    /// What the Open Inference Protocol needs besides.
    pub oip: Oip,
    /// Counts and times everything.
    pub metrics: Arc<Metrics>,
    /// Whether `/metrics` is on the admin listener alone.
    pub metrics_apart: bool,
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
    let door = middleware::from_fn_with_state(state.clone(), auth::require_key);
    let routes = routes(state.metrics_apart, |keyed| keyed.route_layer(door.clone()));
    let cors = state.cors.as_ref().map(CorsOrigins::layer);
    let routes = openapi::described(routes)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state.clone());
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    observed(routes, state)
}

/// What is served. `lock` puts what costs something or holds somebody's picture behind a key, where
/// keys are asked for.
fn routes(
    metrics_apart: bool,
    lock: impl Fn(OpenApiRouter<AppState>) -> OpenApiRouter<AppState>,
) -> OpenApiRouter<AppState> {
    let pictures = OpenApiRouter::default()
        .routes(routes!(classify::classify))
        .routes(routes!(attention::show, attention::forget))
        .routes(routes!(verify::show, verify::start, verify::cancel));
    let metrics = match metrics_apart {
        false => OpenApiRouter::default().routes(routes!(health::metrics)),
        true => OpenApiRouter::default(),
    };
    OpenApiRouter::default()
        .merge(lock(openapi::keyed(pictures)))
        .merge(oip::open())
        .merge(lock(openapi::keyed(oip::keyed())))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .merge(metrics)
        .merge(page::routes())
        .merge(page::docs_routes())
}

/// What every request passes, whichever listener it came by.
fn observed(routes: Router, state: AppState) -> Router {
    routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state.hosts),
            hosts::only_allowed,
        ))
        .layer(middleware::from_fn(linger::over_refused_bodies))
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
    let version = request.version();
    let is_oip = oip::is_below(request.uri().path());
    let span = tracing::info_span!("request", request_id = %id, trace_id = Empty, %method, route, key = Empty, otel.kind = Empty);
    let place = telemetry::join(&span, trace_context::of(request.headers()));
    span.record("trace_id", format_args!("{:032x}", place.trace));
    request.extensions_mut().insert(id.clone());

    let mut response = next.run(request).instrument(span.clone()).await;

    if response.extensions().get::<Panicked>().is_some() {
        response = Problem::new(&Error::Internal, &id).into_response();
    }
    if is_oip {
        response = oip::reworded(response);
    }
    if let Some(value) = id.header() {
        response.headers_mut().insert(request_id::HEADER, value);
    }
    trace_context::answer(response.headers_mut(), place);
    // Before the listener closes, clients move to connections elsewhere.
    if !state.readiness.get() && version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
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
                  GET /healthz, GET /readyz, GET /metrics, GET /openapi.json (GET /docs shows it), and GET /v2 for the Open Inference Protocol";
    Problem::of_routing(StatusCode::NOT_FOUND, detail, &request_id(&request))
}

async fn method_not_allowed(request: Request) -> Problem {
    let method = Excerpt(request.method());
    Problem::of_routing(
        StatusCode::METHOD_NOT_ALLOWED,
        format_args!("{method} is not allowed here"),
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
