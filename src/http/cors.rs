//! What pages from elsewhere may ask (the Fetch standard's CORS protocol).

use std::time::Duration;

use axum::http::{HeaderName, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::request_id;
use crate::config::CorsOrigins;

/// How long a browser may remember a preflight's answer.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Answers preflights and marks answers. Keys are sent in a header and never by cookies, so
/// credentials are not allowed.
pub(super) fn layer(origins: &CorsOrigins) -> CorsLayer {
    let origins = match origins {
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::These(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            header::CONTENT_ENCODING,
            HeaderName::from_static("inference-header-content-length"),
            HeaderName::from_static("request-timeout"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
            HeaderName::from_static(request_id::HEADER),
        ])
        .expose_headers([
            header::ETAG,
            header::RETRY_AFTER,
            HeaderName::from_static("inference-header-content-length"),
            HeaderName::from_static("traceresponse"),
            HeaderName::from_static("x-attention-id"),
            HeaderName::from_static("x-patchlight-view"),
            HeaderName::from_static(request_id::HEADER),
        ])
        .max_age(REMEMBERED)
}
