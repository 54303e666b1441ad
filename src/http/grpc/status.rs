//! Errors as gRPC says them: a status, and metadata with our code and when to try again.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use tonic::{Code, Status};

use super::answer;
use crate::{Error, http::Problem};

/// The stable code of an error.
const CODE: HeaderName = HeaderName::from_static("patchlight-code");

/// When to try again, in milliseconds (gRFC A6).
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The HTTP status that an answer stands for, which itself is 200 in any case: for metrics and logs.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct StandsFor(StatusCode);

/// What an answer stands for.
pub(in crate::http) fn status_of(response: &Response) -> StatusCode {
    let stands_for = response.extensions().get::<StandsFor>();
    stands_for.map_or_else(|| response.status(), |StandsFor(status)| *status)
}

/// The status of a call that ends with this error.
pub(super) fn status(error: &Error) -> Status {
    Status::new(code(error.code(), error.status()), error.to_string())
}

/// The same answer for the client of a call: a problem document becomes a status. Anything else is
/// returned as it is.
pub(in crate::http) fn as_status(mut response: Response) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let status = Status::new(
        code(problem.code(), problem.status().as_u16()),
        problem.detail(),
    );
    // Without a message, headers are the trailers.
    let mut answer = answer::response(Body::empty());
    let headers = answer.headers_mut();
    headers.extend(answer::trailers(&status));
    headers.insert(CODE, HeaderValue::from_static(problem.code()));
    if let Some(seconds) = problem.retry_after() {
        headers.insert(PUSHBACK, (1000 * seconds).into());
    }
    let stands_for = StandsFor(problem.status());
    answer.extensions_mut().insert(stands_for);
    answer
}

/// The code of gRPC for an error with this code of ours and this HTTP status.
fn code(code: &str, status: u16) -> Code {
    match (code, status) {
        ("not_found" | "method_not_allowed", _) => Code::Unimplemented,
        ("body_too_large" | "quota_exceeded" | "too_many_jobs", _) => Code::ResourceExhausted,
        ("unsupported_encoding", _) => Code::Unimplemented,
        (_, 401) => Code::Unauthenticated,
        (_, 403 | 421) => Code::PermissionDenied,
        (_, 404) => Code::NotFound,
        (_, 408 | 504) => Code::DeadlineExceeded,
        (_, 409) => Code::FailedPrecondition,
        (_, 503) => Code::Unavailable,
        (_, 400..500) => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse;

    use super::*;
    use crate::http::RequestId;

    fn answered(error: &Error) -> Response {
        as_status(Problem::new(error, &RequestId::example()).into_response())
    }

    #[test]
    fn every_error_is_a_status_with_its_code_and_no_body() {
        for error in Error::examples() {
            let response = answered(&error);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_ne!(status.code(), Code::Ok, "{error}");
            assert_eq!(status.message(), error.to_string());
            assert_eq!(response.headers()[CODE], error.code());
            assert_eq!(status_of(&response).as_u16(), error.status());
        }
    }

    #[test]
    fn who_is_to_come_again_learns_when() {
        let retry_after = Duration::from_secs(3);
        let response = answered(&Error::Overloaded { retry_after });
        assert_eq!(response.headers()[PUSHBACK], "3000");
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(
            !answered(&Error::Unauthorized)
                .headers()
                .contains_key(PUSHBACK)
        );
    }
}
