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

/// The server's time-out, or less if the client asks for less.
pub(super) fn time_allowed(headers: &HeaderMap, server: Duration) -> Result<Duration> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(server);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok())
        .filter(|&seconds| seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.min(1e9)).ok())
        .map(|asked| asked.min(server))
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

    fn allowed(header: &'static str) -> Result<Duration> {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static(HEADER),
            HeaderValue::from_static(header),
        )]);
        time_allowed(&headers, Duration::from_secs(10))
    }

    #[test]
    fn a_request_can_only_shorten_its_time() {
        assert_eq!(allowed("2.5").unwrap(), Duration::from_millis(2500));
        assert_eq!(allowed("3600").unwrap(), Duration::from_secs(10));
        assert_eq!(allowed("inf").unwrap(), Duration::from_secs(10));
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for header in ["", "0", "-1", "NaN", "10s"] {
            assert!(allowed(header).is_err(), "{header}");
        }
    }
}
