//! Maps errors to RFC 9457 problem documents; the only place that does.

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use patchlight_imaging::Error as ImageError;
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use super::{RequestId, content_encoding::READ};
use crate::Error;

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
            | Error::StoreUnavailable { retry_after } => {
                Some(retry_after.as_secs_f64().ceil().max(1.0) as u64)
            }
            Error::Draining | Error::NotReady | Error::OutOfMemory => Some(1),
            _ => None,
        };
        let (code, status) = (error.code(), error.status());
        let words = StatusCode::from_u16(status).ok();
        Self {
            kind: format!("urn:patchlight:problem:{code}"),
            title: words
                .and_then(|status| status.canonical_reason())
                .unwrap_or("Error"),
            status,
            detail: error.to_string(),
            code,
            request_id: request_id.to_string(),
            retry_after,
            names_codings: matches!(error, Error::UnsupportedEncoding { .. }),
        }
    }

    /// One for descriptions.
    pub(super) fn example() -> Self {
        let found = "PDF".into();
        Self::new(
            &Error::Image(ImageError::UnsupportedFormat { found }),
            &RequestId::example(),
        )
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

    /// Seconds after which to try again, if it says so.
    pub(super) fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// Whether it says when to try again.
    pub(super) fn says_when(&self) -> bool {
        self.retry_after.is_some()
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        // The table of errors has statuses alone; a test holds it to that.
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
        // For [`as_oip_error`](super::oip::as_oip_error).
        response.extensions_mut().insert(self);
        response
    }
}

/// The codes of problems, as an enumeration.
pub(super) struct Code;

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let errors = Error::examples();
        let codes: BTreeSet<&str> = errors.iter().map(Error::code).collect();
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "What went wrong, for programs: stable, one word each.",
            ))
            .enum_values(Some(codes))
            .into()
    }
}

impl ToSchema for Code {}
