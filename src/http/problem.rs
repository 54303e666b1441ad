//! The only place where errors become HTTP: RFC 9457 problem documents.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{RequestId, oip::coding::READ, openapi::Code};
use crate::{Error, error::Detail};

/// What went wrong: an RFC 9457 problem document with a stable code.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A URN that ends with the code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened and what to do, for people.
    detail: String,
    /// What happened, for programs.
    #[schema(value_type = Code)]
    code: &'static str,
    /// As in the header `X-Request-Id` and in the log.
    request_id: String,
    #[serde(skip)]
    retry_after: Option<u64>,
    /// Whether the answer says which codings of a body are read (RFC 9110, section 12.5.3).
    #[serde(skip)]
    names_codings: bool,
}

impl Problem {
    /// RFC 9457, section 3.
    pub(super) const MEDIA_TYPE: &str = "application/problem+json";

    /// The document for an error.
    pub fn new(error: &Error, request_id: &RequestId) -> Self {
        let retry_after = match error {
            Error::Overloaded { retry_after }
            | Error::QuotaExceeded { retry_after }
            | Error::TooManyJobs { retry_after }
            | Error::StoreAway { retry_after } => {
                Some(retry_after.as_secs_f64().ceil().max(1.0) as u64)
            }
            Error::Draining | Error::NotReady => Some(1),
            _ => None,
        };
        let mut problem = Self::build(
            status(error),
            error.code(),
            error.to_string(),
            retry_after,
            request_id,
        );
        problem.names_codings = matches!(error, Error::UnsupportedEncoding { .. });
        problem
    }

    /// The document for a route or method that does not exist.
    pub fn of_routing(
        status: StatusCode,
        detail: impl Into<Detail>,
        request_id: &RequestId,
    ) -> Self {
        let code = match status {
            StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
            _ => "not_found",
        };
        Self::build(status, code, detail.into().to_string(), None, request_id)
    }

    fn build(
        status: StatusCode,
        code: &'static str,
        detail: String,
        retry_after: Option<u64>,
        request_id: &RequestId,
    ) -> Self {
        Self {
            kind: format!("urn:patchlight:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail,
            code,
            request_id: request_id.to_string(),
            retry_after,
            names_codings: false,
        }
    }

    /// One for descriptions.
    pub(super) fn example() -> Self {
        let found = "PDF".into();
        Self::new(&Error::UnsupportedFormat { found }, &RequestId::example())
    }

    /// What happened, in words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The same for programs.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The request's name.
    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Whether it says when to try again.
    pub(super) fn says_when(&self) -> bool {
        self.retry_after.is_some()
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        // Every problem is built from a StatusCode.
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // A struct of strings and numbers always has a JSON form.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(Self::MEDIA_TYPE),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.names_codings {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(READ));
        }
        // For those who say it in other words.
        response.extensions_mut().insert(self);
        response
    }
}

fn status(error: &Error) -> StatusCode {
    match error {
        Error::MalformedRequest(_) | Error::InvalidParameter { .. } => StatusCode::BAD_REQUEST,
        Error::Unauthorized => StatusCode::UNAUTHORIZED,
        Error::HostNotAllowed { .. } => StatusCode::MISDIRECTED_REQUEST,
        Error::NoSuchModel { .. } | Error::NoSuchMap => StatusCode::NOT_FOUND,
        Error::NotAcceptable { .. } => StatusCode::NOT_ACCEPTABLE,
        Error::UploadTooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
        Error::VerifyNotAllowed => StatusCode::FORBIDDEN,
        Error::NoSuchJob => StatusCode::NOT_FOUND,
        Error::TooManyJobs { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::MapNotKept(_)
        | Error::NotVerifiable(_)
        | Error::NotForgettable { .. }
        | Error::DefaultModel { .. } => StatusCode::CONFLICT,
        Error::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::UnsupportedFormat { .. } | Error::UnsupportedEncoding { .. } => {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        }
        Error::ImageUndecodable { .. }
        | Error::DecoderPanicked { .. }
        | Error::ImageTooLarge { .. }
        | Error::ModelRefused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Error::QuotaExceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Overloaded { .. } | Error::Draining | Error::NotReady | Error::StoreAway { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::DeadlinePassed { .. } => StatusCode::GATEWAY_TIMEOUT,
        Error::NotFinite | Error::Inference | Error::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
