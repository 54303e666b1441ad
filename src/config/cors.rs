//! Which pages from elsewhere may ask (the Fetch standard's CORS protocol).

use std::str::FromStr;

use axum::http::{HeaderValue, Uri};

/// The origins that `--cors-origin` names.
#[derive(Clone, Debug, PartialEq)]
pub enum CorsOrigins {
    /// `*`
    Any,
    /// Exactly these.
    These(Vec<HeaderValue>),
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
