//! Which pages from elsewhere may ask (the Fetch standard's CORS protocol).

use std::{str::FromStr, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::request_id;

/// How long a browser may remember a preflight's answer.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The origins that `--cors-origin` names.
#[derive(Clone, Debug, PartialEq)]
pub enum CorsOrigins {
    /// `*`
    Any,
    /// Exactly these.
    These(Vec<HeaderValue>),
}

impl CorsOrigins {
    /// Answers preflights and marks answers. Keys are sent in a header and never by cookies, so
    /// credentials are not allowed.
    pub(super) fn layer(&self) -> CorsLayer {
        let origins = match self {
            Self::Any => AllowOrigin::any(),
            Self::These(origins) => AllowOrigin::list(origins.iter().cloned()),
        };
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_NONE_MATCH,
                header::CONTENT_ENCODING,
                HeaderName::from_static("inference-header-content-length"),
                HeaderName::from_static("request-timeout"),
                HeaderName::from_static("traceparent"),
                HeaderName::from_static("tracestate"),
                HeaderName::from_static(request_id::HEADER),
            ])
            .expose_headers([
                header::ETAG,
                header::RETRY_AFTER,
                HeaderName::from_static("inference-header-content-length"),
                HeaderName::from_static("traceresponse"),
                HeaderName::from_static("x-patchlight-view"),
                HeaderName::from_static(request_id::HEADER),
            ])
            .max_age(REMEMBERED)
    }
}

/// `*`, or origins with commas between them.
impl FromStr for CorsOrigins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        text.split(',')
            .map(str::trim)
            .map(|origin| {
                is_origin(origin)
                    .then(|| HeaderValue::from_str(origin).ok())
                    .flatten()
                    .ok_or_else(|| {
                        format!("`{origin}` is not an origin such as https://example.org:8443")
                    })
            })
            .collect::<Result<_, _>>()
            .map(Self::These)
    }
}

/// Scheme, host and perhaps a port, as browsers send it: in small letters, no slash at the end.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    matches!(scheme, "http" | "https")
        && !authority.as_str().contains('@')
        && text == format!("{scheme}://{authority}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_one_or_several() {
        assert_eq!("*".parse(), Ok(CorsOrigins::Any));
        let two: CorsOrigins = "https://a.example, http://localhost:3000".parse().unwrap();
        let CorsOrigins::These(two) = two else {
            panic!("two origins");
        };
        assert_eq!(two, ["https://a.example", "http://localhost:3000"]);
    }

    #[test]
    fn what_no_browser_would_send_is_refused() {
        for wrong in [
            "",
            "a.example",
            "https://a.example/",
            "https://a.example/page",
            "https://A.example",
            "https://user@a.example",
            "ftp://a.example",
            "null",
            "https://a.example,",
        ] {
            assert!(wrong.parse::<CorsOrigins>().is_err(), "{wrong:?}");
        }
    }
}
