//! Refuses requests that name a host which is not this server.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Problem, request_id};
use crate::{Error, config::AllowedHosts, error::Detail};

/// Middleware for every route of a listener.
pub(super) async fn only_allowed(
    State(allowed): State<Arc<AllowedHosts>>,
    request: Request,
    next: Next,
) -> Response {
    match allowed.refused(&request) {
        None => next.run(request).await,
        Some(host) => {
            let host = Detail::quoting(&host);
            let error = Error::HostNotAllowed { host };
            Problem::new(&error, &request_id(&request)).into_response()
        }
    }
}
