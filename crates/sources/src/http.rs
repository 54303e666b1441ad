//! Requests over HTTP, redirects and repeats included.

use std::{io::Read, sync::Arc, thread, time::Duration};

use patchlight_escape::Excerpt;
use patchlight_import::CancelFlag;
use rustls::crypto::ring;
use ureq::{
    Agent, Body, Proxy,
    http::{HeaderMap, Response, StatusCode, Uri, header},
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use crate::{HttpError, Retry, SourceError};

/// How long a server may take to be connected to, to answer, and to send the next bytes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Redirects of one request.
const MAX_REDIRECTS: usize = 8;

/// Bytes of an answer that is read whole: listings of files, errors.
pub(crate) const MAX_TEXT: u64 = 16 << 20;

/// Sends requests; proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`,
/// certificates those that the machine trusts.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    agent: Agent,
    /// The same without proxies.
    direct: Agent,
    pub(crate) retry: Retry,
}

/// TLS that trusts whom the machine trusts.
pub fn machine_tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    let roots = found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned());
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::from(roots))
        .build()
}

/// A request without a body.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) url: String,
    /// `Authorization`, sent to the host of `url` and no other.
    pub(crate) bearer: Option<&'a str>,
    pub(crate) head: bool,
    /// The first byte that is wanted, if not all are.
    pub(crate) from: u64,
    /// Of what content, by its ETag or its time; of another one all is wanted.
    pub(crate) if_range: Option<&'a str>,
    /// Whether the first byte is enough: what a file is, from servers that take GET alone.
    pub(crate) probe: bool,
}

impl Request<'_> {
    pub(crate) fn get(url: String) -> Self {
        Self {
            url,
            bearer: None,
            head: false,
            from: 0,
            if_range: None,
            probe: false,
        }
    }
}

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Follow {
    /// All of them.
    All,
    /// Those that stay on the host, and are no answer in themselves.
    SameHost,
}

impl Http {
    pub(crate) fn new(retry: Retry) -> Self {
        let tls = machine_tls();
        let config = |proxy: Option<Proxy>| {
            Agent::config_builder()
                .tls_config(tls.clone())
                .proxy(proxy)
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(Some(ANSWER_TIMEOUT))
                .timeout_per_read(Some(ANSWER_TIMEOUT))
                .user_agent(concat!("patchlight/", env!("CARGO_PKG_VERSION")))
                .build()
        };
        Self {
            agent: config(Proxy::try_from_env()).into(),
            direct: config(None).into(),
            retry,
        }
    }

    /// What sends without a proxy.
    pub(crate) fn direct(&self) -> &Agent {
        &self.direct
    }

    /// What sends, for clients that bring protocols of their own.
    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Sends a request until it is answered, with anything but what may pass.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        follow: Follow,
        cancel: &CancelFlag,
    ) -> Result<Response<Body>, SourceError> {
        let mut failures = 0;
        loop {
            match self.send_once(request, follow) {
                Err(error) if error.may_pass() => {
                    failures += 1;
                    self.pause(failures, error, cancel)?;
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The error itself if there is to be none, or that it was cancelled.
    pub(crate) fn pause(
        &self,
        failures: u32,
        error: HttpError,
        cancel: &CancelFlag,
    ) -> Result<(), SourceError> {
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        let Some(mut left) = self.retry.pause(failures, error.retry_after()) else {
            return Err(error.into());
        };
        while !left.is_zero() {
            if cancel.is_cancelled() {
                return Err(SourceError::Cancelled);
            }
            let step = left.min(LOOK_AGAIN);
            thread::sleep(step);
            left -= step;
        }
        Ok(())
    }

    /// Sends a request once; every status but those of errors is an answer, and so are those that
    /// say something of what was asked for.
    pub(crate) fn send_once(
        &self,
        request: &Request<'_>,
        follow: Follow,
    ) -> Result<Response<Body>, HttpError> {
        let mut url: Uri = parse(&request.url)?;
        let first = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut response = self.send_to(request, &url, is_same_origin(&first, &url))?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let next = location(&url, response.headers())?;
                let stays = is_same_origin(&url, &next);
                if follow == Follow::SameHost && !stays {
                    return Ok(response);
                }
                if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                    let detail = "redirects to an address without TLS".to_owned();
                    return Err(HttpError::Answer {
                        host: host(&url),
                        detail,
                    });
                }
                url = next;
                continue;
            }
            let passes = status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT;
            if passes {
                return Err(status_error(&url, &mut response));
            }
            return Ok(response);
        }
        Err(HttpError::Answer {
            host: host(&first),
            detail: format!("redirects more than {MAX_REDIRECTS} times"),
        })
    }

    fn send_to(
        &self,
        request: &Request<'_>,
        url: &Uri,
        at_home: bool,
    ) -> Result<Response<Body>, HttpError> {
        let mut builder = match request.head {
            true => self.agent.head(url.clone()),
            false => self.agent.get(url.clone()),
        };
        // Lengths and ranges are those of the file.
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = request.bearer.filter(|_| at_home) {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if request.from > 0 {
            builder = builder.header(header::RANGE, format!("bytes={}-", request.from));
            if let Some(content) = request.if_range {
                builder = builder.header(header::IF_RANGE, content);
            }
        }
        if request.probe {
            builder = builder.header(header::RANGE, "bytes=0-0");
        }
        builder
            .call()
            .map_err(|error| HttpError::unanswered(host(url), error))
    }
}

/// The body of an answer, however long.
pub(crate) fn reader(response: Response<Body>) -> Box<dyn Read> {
    let body = response.into_body().into_with_config();
    Box::new(body.limit(u64::MAX).reader())
}

/// The body of an answer as text, bounded.
pub(crate) fn text(url: &str, response: &mut Response<Body>) -> Result<String, HttpError> {
    response
        .body_mut()
        .with_config()
        .limit(MAX_TEXT)
        .read_to_string()
        .map_err(|error| HttpError::Unreachable {
            host: host_of(url),
            error,
        })
}

/// An error status as an error.
pub(crate) fn status_error(url: &Uri, response: &mut Response<Body>) -> HttpError {
    const MAX_DETAIL: u64 = 4096;
    let body = response.body_mut().with_config().limit(MAX_DETAIL);
    let text = body.lossy_utf8(true).read_to_string().unwrap_or_default();
    let said = header_text(response.headers(), "x-error-message").unwrap_or(text);
    let detail = match said.trim() {
        "" => String::new(),
        said => format!(": {}", Excerpt(said)),
    };
    HttpError::Status {
        host: host(url),
        status: response.status(),
        detail,
        retry_after: retry_after(response.headers()),
    }
}

/// What a header says, if it is text.
pub(crate) fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// The host that an address leads to, for messages.
pub(crate) fn host_of(url: &str) -> String {
    url.parse::<Uri>()
        .map_or_else(|_| url.to_owned(), |url| host(&url))
}

/// Seconds of `Retry-After`, or of `RateLimit` (IETF draft, version 9) where nothing remains.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    if let Some(seconds) = header_text(headers, "retry-after") {
        return Some(Duration::from_secs(seconds.parse().ok()?));
    }
    let limit = header_text(headers, "ratelimit")?;
    let field = |name: &str| {
        let mut parts = limit.split(';').map(str::trim);
        parts.find_map(|part| {
            part.strip_prefix(name)?
                .strip_prefix('=')?
                .parse::<u64>()
                .ok()
        })
    };
    (field("r") == Some(0)).then(|| field("t").map(Duration::from_secs))?
}

/// Where a redirect leads.
fn location(from: &Uri, headers: &HeaderMap) -> Result<Uri, HttpError> {
    let fail = |detail: &str| HttpError::Answer {
        host: host(from),
        detail: detail.to_owned(),
    };
    let text = header_text(headers, "location").ok_or_else(|| fail("redirects to nowhere"))?;
    if text.starts_with('/') && !text.starts_with("//") {
        let scheme = from.scheme_str().unwrap_or("https");
        let authority = from.authority().map_or("", |authority| authority.as_str());
        return parse(&format!("{scheme}://{authority}{text}"));
    }
    let absolute = text.starts_with("https://") || text.starts_with("http://");
    match absolute {
        true => parse(&text),
        false => Err(fail("redirects to something that is no http address")),
    }
}

fn parse(url: &str) -> Result<Uri, HttpError> {
    url.parse().map_err(|error| HttpError::Answer {
        host: Excerpt(url).to_string(),
        detail: format!("is no http address: {error}"),
    })
}

fn host(url: &Uri) -> String {
    url.authority().map_or_else(
        || url.to_string(),
        |authority| authority.host().to_owned() + &port(url),
    )
}

fn port(url: &Uri) -> String {
    url.port_u16()
        .map(|port| format!(":{port}"))
        .unwrap_or_default()
}

/// Whether a secret for one may be sent to the other.
fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme_str() == other.scheme_str()
        && one.host().map(str::to_ascii_lowercase) == other.host().map(str::to_ascii_lowercase)
        && one.port_u16() == other.port_u16()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn waits_as_long_as_either_header_says() {
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), seconds(7));
        let limited = headers(&[("ratelimit", "\"api\";r=0;t=55")]);
        assert_eq!(retry_after(&limited), seconds(55));
        let left = headers(&[("ratelimit", "\"api\";r=3;t=55")]);
        assert_eq!(retry_after(&left), None);
    }

    #[test]
    fn redirects_are_relative_or_whole() {
        let from: Uri = "https://hub.example:8443/a/resolve/main/x".parse().unwrap();
        let to = |text| location(&from, &headers(&[("location", text)])).map(|uri| uri.to_string());
        assert_eq!(to("/b/x").unwrap(), "https://hub.example:8443/b/x");
        assert_eq!(
            to("https://cdn.example/x?s=1").unwrap(),
            "https://cdn.example/x?s=1"
        );
        assert!(to("file:///etc/passwd").is_err());
        assert!(to("//elsewhere/x").is_err());
    }

    #[test]
    fn another_port_is_another_origin() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert!(is_same_origin(&uri("http://a:1/x"), &uri("http://A:1/y")));
        assert!(!is_same_origin(&uri("http://a:1/x"), &uri("http://a:2/x")));
        assert!(!is_same_origin(&uri("https://a/x"), &uri("http://a/x")));
    }
}
