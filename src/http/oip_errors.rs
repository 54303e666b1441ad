//! What goes wrong below `/v2`, in the words of the Open Inference Protocol; Hugging Face's clients
//! look for the same member `error`.

use axum::{
    Json,
    http::{Method, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Code, Problem};

/// What went wrong, as the Open Inference Protocol says it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OipError {
    /// What happened and what to do, for people.
    error: String,
    /// What happened, for programs.
    #[schema(value_type = Code)]
    code: &'static str,
    /// As in the header `X-Request-Id` and in the log.
    request_id: String,
}

impl From<&Problem> for OipError {
    fn from(problem: &Problem) -> Self {
        Self {
            error: problem.detail().to_owned(),
            code: problem.code(),
            request_id: problem.request_id().to_owned(),
        }
    }
}

impl OipError {
    /// What happened, for programs.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

/// The same answer for a client of the Open Inference Protocol: a problem document becomes an
/// [`OipError`]; its status and headers stay. Anything else is returned as it is.
pub(super) fn as_oip_error(mut response: Response) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let body = Json(OipError::from(&problem));
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut answer = body.into_response();
    *answer.status_mut() = parts.status;
    answer.headers_mut().extend(parts.headers);
    answer
}

/// Whether a path belongs to the protocol, known or not.
fn is_below(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// Whether errors of a request have this form: those of the protocol, and of the image
/// classification task of Hugging Face.
pub(super) fn is_used_by(method: &Method, path: &str) -> bool {
    is_below(path) || path.starts_with("/models/") || (path == "/" && method == Method::POST)
}
