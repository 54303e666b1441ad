//! A name for each request: in its answer, its problem document and its log lines.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, request::Parts};

/// The header that brings and returns it.
pub(super) const HEADER: &str = "x-request-id";

/// The client's own `X-Request-Id` if it is harmless, else a new one.
#[derive(Clone, Debug)]
pub struct RequestId(String);

impl RequestId {
    const MAX_LENGTH: usize = 64;

    /// Takes or makes the id of a request.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        headers
            .get(HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_harmless(text))
            .map_or_else(Self::random, |text| Self(text.to_owned()))
    }

    /// The id that a request was given on its way in.
    pub(super) fn given(parts: &Parts) -> Self {
        let given = parts.extensions.get::<Self>().cloned();
        given.unwrap_or_else(|| Self::of(&parts.headers))
    }

    /// One for descriptions.
    pub(super) fn example() -> Self {
        Self("6dae637986c46af1".to_owned())
    }

    /// As a header.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    fn random() -> Self {
        let mut bytes = [0; 8];
        // Only a name: without a random source all are zero and nothing depends on it.
        let _ = getrandom::fill(&mut bytes);
        Self(format!("{:016x}", u64::from_le_bytes(bytes)))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What may be written into logs and headers as it is.
fn is_harmless(text: &str) -> bool {
    (1..=RequestId::MAX_LENGTH).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(sent).unwrap());
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn a_harmless_id_is_kept() {
        assert_eq!(id_for("job-7_a"), "job-7_a");
    }

    #[test]
    fn anything_else_is_replaced() {
        for sent in ["", "a b", "a;b", "x\u{e4}", &"a".repeat(65)] {
            assert_ne!(id_for(sent), sent);
            assert_eq!(id_for(sent).len(), 16);
        }
    }
}
