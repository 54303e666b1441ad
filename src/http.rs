//! The routes, and what every request passes.
//!
//! From the outside in: [`observe`](self) names the request, counts and times it and writes one log
//! line; a refused body is read on for a while (`drain_body`); a request has one host, which is a
//! name of ours (`host`); a caught panic becomes a 500; then the route. Every error, also the
//! router's own and that of a panic, leaves as `application/problem+json` (`problem`).

mod admin;
mod attention;
mod auth_layer;
mod blocking_pool;
mod classify;
mod client_address;
mod content_encoding;
mod cors;
mod drain_body;
mod grpc;
mod health;
mod hf_task;
mod host;
mod negotiate;
pub(crate) mod oip;
mod oip_errors;
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

use std::{any::Any, sync::Arc, time::Instant};

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
    admin::admin_router, blocking_pool::RenderPool, client_address::ClientAddress, grpc::Grpc,
    oip::Oip, problem::Problem, request_id::RequestId,
};
use crate::{
    Error,
    config::{AllowedHosts, CorsOrigins},
    image_fetch::ImageFetcher,
    metrics::Metrics,
    readiness::Readiness,
    service::Service,
    store::Store,
    telemetry,
    verify::Jobs,
};
use patchlight_escape::Excerpt;

/// State shared by all routes.
#[derive(Clone, Debug)]
pub struct AppState {
    /// What all front ends share.
    pub service: Service,
    /// Where maps are, whichever model made them.
    pub store: Store,
    /// Whether new work should be sent here.
    pub readiness: Readiness,
    /// Origins that may call from a browser.
    pub cors: Option<CorsOrigins>,
    /// The names that requests may call the server by.
    pub hosts: Arc<AllowedHosts>,
    /// Fetches images that are named by a URL.
    pub image_fetcher: ImageFetcher,
    /// Renders maps.
    pub render_pool: RenderPool,
    /// Perturbation tests of kept maps, where they are allowed.
    pub verify: Option<Jobs>,
    /// State of the Open Inference Protocol.
    pub oip: Oip,
    /// State of gRPC.
    pub grpc: Grpc,
    /// Counts and times everything.
    pub metrics: Arc<Metrics>,
    /// Whether `/metrics` is on the admin listener alone.
    pub metrics_on_admin: bool,
}

/// All routes of the service.
pub fn router(state: AppState) -> Router {
    let require_key = middleware::from_fn_with_state(state.clone(), auth_layer::require_key);
    let routes = routes(state.metrics_on_admin, |keyed| {
        keyed.route_layer(require_key.clone())
    });
    let cors = state.cors.as_ref().map(cors::layer);
    let routes = openapi::described(routes)
        .merge(grpc::routes(&state))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state.clone());
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    observed(routes, state)
}

/// The routes of a listener for gRPC alone.
pub fn grpc_router(state: AppState) -> Router {
    grpc::router(state)
}

/// The routes. `require_auth` protects those that cost something or show a client's image, where
/// API keys are configured.
fn routes(
    metrics_on_admin: bool,
    require_auth: impl Fn(OpenApiRouter<AppState>) -> OpenApiRouter<AppState>,
) -> OpenApiRouter<AppState> {
    let classification = OpenApiRouter::default()
        .merge(openapi::with_image_bodies(
            OpenApiRouter::default()
                .routes(routes!(classify::classify))
                .routes(routes!(hf_task::default_model))
                .routes(routes!(hf_task::named_model)),
        ))
        .routes(routes!(attention::show, attention::forget))
        .routes(routes!(verify::show, verify::start, verify::cancel));
    let metrics = match metrics_on_admin {
        false => OpenApiRouter::default().routes(routes!(health::metrics)),
        true => OpenApiRouter::default(),
    };
    OpenApiRouter::default()
        .merge(require_auth(openapi::keyed(classification)))
        .merge(oip::public_routes())
        .merge(require_auth(openapi::keyed(oip::keyed_routes())))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .merge(metrics)
        .merge(page::routes())
        .merge(page::docs_routes())
}

/// What every request passes, whichever listener it came by.
fn observed(routes: Router, state: AppState) -> Router {
    let hosts = middleware::from_fn_with_state(Arc::clone(&state.hosts), host::require_allowed);
    guarded(routes.layer(hosts), state.service.limits.max_body)
        .layer(middleware::from_fn_with_state(state, observe))
}

/// The part of it that needs no more than the limit on bodies.
pub(crate) fn guarded(routes: Router, max_body: u64) -> Router {
    routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(middleware::from_fn(host::require_one))
        .layer(middleware::from_fn_with_state(
            max_body,
            drain_body::drain_refused_bodies,
        ))
}

/// Gives a request its id, measures, counts and logs it. The route's template, never the path, is
/// used: paths hold map ids, which are secrets.
async fn observe(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = state.metrics.in_flight();
    let id = RequestId::of(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let method = request.method().clone();
    let version = request.version();
    let is_oip = oip_errors::is_used_by(&method, request.uri().path());
    let is_call = grpc::is_call(request.headers());
    let span = tracing::info_span!("request", request_id = %id, trace_id = Empty, %method, route, key = Empty, otel.kind = Empty);
    let context = telemetry::join(&span, trace_context::of(request.headers()));
    span.record("trace_id", format_args!("{:032x}", context.trace));
    request.extensions_mut().insert(id.clone());

    let mut response = next.run(request).instrument(span.clone()).await;

    if response.extensions().get::<Panicked>().is_some() {
        response = Problem::new(&Error::Internal, &id).into_response();
    }
    if is_call {
        response = grpc::as_status(response);
    } else if is_oip {
        response = oip_errors::as_oip_error(response);
    }
    if let Some(value) = id.header() {
        response.headers_mut().insert(request_id::HEADER, value);
    }
    trace_context::answer(response.headers_mut(), context);
    // Before the listener closes, clients move to connections elsewhere.
    if !state.readiness.get() && version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    let status = grpc::status_of(&response).as_u16();
    let took = started.elapsed();
    state.metrics.request(route, status, took);
    // Probes and scrapes come every few seconds and say nothing.
    if !matches!(route, "/healthz" | "/readyz" | "/metrics") {
        span.in_scope(|| tracing::info!(status, ms = took.as_secs_f64() * 1000.0, "answered"));
    }
    response
}

/// Marks the answer of a caught panic, for [`observe`] to make a problem document of it.
#[derive(Clone, Copy)]
struct Panicked;

fn panicked(error: Box<dyn Any + Send>) -> Response {
    let text = error
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| error.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(error = text, "a request handler panicked");
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(Panicked);
    response
}

/// The routes, for those who ask for something else. A test compares them with the document.
const ROUTES: &str = "GET and POST /, POST /classify, POST /models/{name}, GET and DELETE /attention/{id}, \
                      GET, POST and DELETE /attention/{id}/verify, GET /healthz, GET /readyz, \
                      GET /metrics, GET /openapi.json (GET /docs shows it), and GET /v2 for the \
                      Open Inference Protocol";

async fn not_found(request: Request) -> Problem {
    let detail = format_args!("there is nothing here; the routes are {ROUTES}").into();
    Problem::new(&Error::NoSuchRoute(detail), &request_id(&request))
}

async fn method_not_allowed(request: Request) -> Problem {
    let method = Excerpt(request.method());
    let error = Error::MethodNotAllowed(format_args!("{method} is not allowed here").into());
    Problem::new(&error, &request_id(&request))
}

/// The id that [`observe`] gave.
fn request_id(request: &Request) -> RequestId {
    request
        .extensions()
        .get::<RequestId>()
        .cloned()
        .unwrap_or_else(|| RequestId::of(request.headers()))
}
