//! Problems in the words of the protocol.

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::http::Problem;

/// The same answer for a client of the Open Inference Protocol: a problem document becomes
/// `{"error": …, "code": …, "request_id": …}`; its status and headers stay. Anything else is
/// returned as it is.
pub(in crate::http) fn reworded(mut response: Response) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let body = Json(json!({
        "error": problem.detail(),
        "code": problem.code(),
        "request_id": problem.request_id(),
    }));
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut reworded = body.into_response();
    *reworded.status_mut() = parts.status;
    reworded.headers_mut().extend(parts.headers);
    reworded
}
