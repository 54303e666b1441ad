//! W3C Trace Context in headers: `traceparent` in, `traceresponse` out.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::telemetry::TraceContext;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The caller's trace context, if it is valid and sent once.
pub(super) fn of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(PARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    TraceContext::parse(value.to_str().ok()?)
}

/// Tells the caller where its request went.
pub(super) fn answer(headers: &mut HeaderMap, context: TraceContext) {
    if let Ok(value) = HeaderValue::from_str(&context.to_string()) {
        headers.insert(RESPONSE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(PARENT, HeaderValue::from_static(SENT));
        assert_eq!(of(&headers), TraceContext::parse(SENT));
        headers.append(PARENT, HeaderValue::from_static(SENT));
        assert_eq!(of(&headers), None);
    }
}
