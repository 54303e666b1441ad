//! One host for each request (RFC 9112, §3.2): two programs that read a request with several may
//! each believe another one.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Version, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Problem, request_id};
use crate::{Error, Result};

/// Middleware for every route: lets a request through, or answers 400.
pub(super) async fn require_one(request: Request, next: Next) -> Response {
    match check(request.version(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => Problem::new(&error, &request_id(&request)).into_response(),
    }
}

fn check(version: Version, headers: &HeaderMap) -> Result<()> {
    let malformed = |text: &str| Err(Error::MalformedRequest(text.to_owned()));
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => malformed("there is more than one Host; HTTP wants exactly one"),
        // HTTP/1.0 does not know it, HTTP/2 has a field of its own for it.
        (None, None) if version == Version::HTTP_11 => {
            malformed("there is no Host; HTTP/1.1 wants one, even an empty one")
        }
        (Some(host), None) if !is_valid(host) => {
            malformed("the Host is none; a name or an address is expected, with a port or without")
        }
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]`, where the former may be empty.
fn is_valid(host: &HeaderValue) -> bool {
    let bytes = host.as_bytes();
    bytes.is_empty() || (!bytes.contains(&b'@') && Authority::try_from(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(version: Version, hosts: &[&'static str]) -> bool {
        let hosts = hosts.iter().map(|host| HeaderValue::from_static(host));
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host);
        }
        check(version, &headers).is_ok()
    }

    #[test]
    fn exactly_one_host_that_is_one() {
        for host in [
            "a",
            "a:8080",
            "192.0.2.1:1",
            "[2001:db8::1]:8080",
            "localhost",
            "",
        ] {
            assert!(accepts(Version::HTTP_11, &[host]), "{host}");
        }
        for host in ["a b", "user@a", "a/b", "a:b:c:d", "http://a"] {
            assert!(!accepts(Version::HTTP_11, &[host]), "{host}");
        }
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert!(!accepts(version, &["a", "a"]));
            assert_eq!(accepts(version, &[]), version != Version::HTTP_11);
        }
    }
}
