//! `grpc-timeout`: how long the client of a call wants to wait.

use std::time::Duration;

use axum::http::HeaderMap;

use crate::{Error, Result};

const HEADER: &str = "grpc-timeout";

/// What the client asks for, if it does: at most eight digits and a unit (gRPC over HTTP/2,
/// "Requests").
///
/// # Errors
/// [`Error::InvalidParameter`] when it is no time.
pub(super) fn requested_timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse);
    parsed.map(Some).ok_or_else(|| Error::InvalidParameter {
        name: HEADER,
        detail: "it must be one to eight digits and one of H, M, S, m, u, n".into(),
    })
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_up_to_eight_digits_and_a_unit() {
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        let longest = Duration::from_secs(99_999_999 * 3600);
        assert_eq!(parse("99999999H"), Some(longest));
        for wrong in ["", "S", "123456789S", "-1S", "1.5S", "1", "1h", "1é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(requested_timeout(&HeaderMap::new()).unwrap(), None);
    }
}
