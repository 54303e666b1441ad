//! `Request-Timeout`: how long a client wants to wait.

use std::time::Duration;

use axum::http::HeaderMap;
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use crate::{Error, Result};

const HEADER: &str = "request-timeout";

/// What the client asks for, if it does.
///
/// # Errors
/// [`Error::InvalidParameter`] when it is no time.
pub(super) fn requested_timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok())
        .filter(|&seconds| seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.min(1e9)).ok())
        .map(Some)
        .ok_or_else(|| Error::InvalidParameter {
            name: "Request-Timeout",
            detail: "it must be a number of seconds above 0".into(),
        })
}

/// The header, for the parameters of an operation.
pub(super) struct RequestTimeout;

impl IntoParams for RequestTimeout {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Number)
            .exclusive_minimum(Some(0));
        let header = ParameterBuilder::new()
            .name("Request-Timeout")
            .parameter_in(ParameterIn::Header)
            .description(Some("Seconds; can only shorten the server's time-out."))
            .schema(Some(seconds))
            .example(Some(5.into()));
        vec![header.build()]
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header::HeaderName};

    use super::*;

    fn requested(header: &'static str) -> Result<Option<Duration>> {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static(HEADER),
            HeaderValue::from_static(header),
        )]);
        requested_timeout(&headers)
    }

    #[test]
    fn a_time_is_a_number_of_seconds() {
        let half = Duration::from_millis(2500);
        assert_eq!(requested("2.5").unwrap(), Some(half));
        let hour = Duration::from_secs(3600);
        assert_eq!(requested(" 3600 ").unwrap(), Some(hour));
        // Longer than any server waits.
        assert!(requested("inf").unwrap() > Some(hour));
        assert_eq!(requested_timeout(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for header in ["", "0", "-1", "NaN", "10s"] {
            assert!(requested(header).is_err(), "{header}");
        }
    }
}
