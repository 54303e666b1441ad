//! The API key in the headers of a request.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{AppState, Problem, request_id};

/// Lets a request through with its [`Caller`](crate::service::Caller) and
/// [`Owner`](crate::store::Owner), or answers 401.
pub(super) async fn require_key(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match state.service.authenticate(bearer(request.headers())) {
        Ok(caller) => caller,
        Err(error) => {
            let mut response = Problem::new(&error, &request_id(&request)).into_response();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
    };
    if let Some(name) = caller.name() {
        tracing::Span::current().record("key", name);
    }
    request.extensions_mut().insert(caller.owner());
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// The key of `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(b"Bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    is_bearer.then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(authorization: &'static str) -> Option<Vec<u8>> {
        let value = HeaderValue::from_static(authorization);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        bearer(&headers).map(<[u8]>::to_vec)
    }

    #[test]
    fn the_scheme_is_read_in_either_case() {
        for value in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(key(value).as_deref(), Some(&b"abc"[..]), "{value}");
        }
    }

    #[test]
    fn other_schemes_bring_no_key() {
        for value in ["Basic abc", "0123456789abcdef", "Bear", "Bearer", ""] {
            assert_eq!(key(value), None, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
