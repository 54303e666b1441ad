//! `Server-Timing`: where the time went, for browsers' and proxies' tools.
//!
//! <https://www.w3.org/TR/server-timing/>; durations are milliseconds.

use std::{fmt::Write, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue},
    response::Response,
};

const HEADER: HeaderName = HeaderName::from_static("server-timing");

/// Adds these stages, in this order, to an answer.
pub(super) fn add(response: &mut Response, stages: &[(&str, Duration)]) {
    if let Ok(value) = HeaderValue::from_str(&text(stages)) {
        response.headers_mut().insert(HEADER, value);
    }
}

fn text(stages: &[(&str, Duration)]) -> String {
    let mut text = String::new();
    for (name, took) in stages {
        let comma = if text.is_empty() { "" } else { ", " };
        let milliseconds = took.as_secs_f64() * 1000.0;
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{name};dur={milliseconds:.3}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_milliseconds_with_commas_between() {
        let stages = [
            ("decode", Duration::from_micros(1250)),
            ("total", Duration::from_secs(2)),
        ];
        assert_eq!(text(&stages), "decode;dur=1.250, total;dur=2000.000");
        assert_eq!(text(&[]), "");
    }
}
