//! Which names this server answers to.
//!
//! A page from anywhere can let its own name lead to 127.0.0.1 once it is loaded (DNS rebinding).
//! For the browser a server there is then of the page's own origin, and the page may read its
//! answers. What gives it away is the name in the request. So a server that only the own machine
//! reaches, and that asks for no keys, answers to names of the loopback alone.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Problem, request_id};
use crate::{Error, error::Detail};

/// The hosts that requests may name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AllowedHosts {
    /// `*`
    Any,
    /// Those of the loopback, and these, in small letters.
    LoopbackAnd(Vec<String>),
}

impl AllowedHosts {
    /// What holds unless `--allowed-hosts` says otherwise. A key is a secret that no page from
    /// elsewhere has, and a server on another address is meant for others under names that it
    /// cannot know.
    pub fn by_default(listen: IpAddr, with_keys: bool) -> Self {
        match listen.to_canonical().is_loopback() && !with_keys {
            true => Self::LoopbackAnd(Vec::new()),
            false => Self::Any,
        }
    }

    fn allows(&self, host: &str) -> bool {
        let names = match self {
            Self::Any => return true,
            Self::LoopbackAnd(names) => names,
        };
        // A dot at the end only says that the name is whole.
        let host = host.strip_suffix('.').unwrap_or(host);
        is_loopback(host) || names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// The first host that a request names and may not. HTTP/2 names it in `:authority`, HTTP/1 in
    /// `Host`, or both in the target and in `Host`; browsers always do.
    fn refused(&self, request: &Request) -> Option<String> {
        let target = request.uri().authority().map(Authority::as_str);
        let named = request.headers().get_all(header::HOST).iter();
        let named = named
            .map(HeaderValue::as_bytes)
            .map(String::from_utf8_lossy);
        let mut all = target.map(Into::into).into_iter().chain(named);
        let refused = all.find(|authority| !host(authority).is_some_and(|host| self.allows(host)));
        refused.map(|authority| authority.into_owned())
    }
}

/// `*`, or names and addresses with commas between them.
impl FromStr for AllowedHosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let names = text.split(',').map(str::trim).map(|name| {
            let name = match name.parse::<Ipv6Addr>() {
                Ok(address) => format!("[{address}]"),
                Err(_) => name.to_ascii_lowercase(),
            };
            match host(&name) == Some(&name) {
                true => Ok(name),
                false => Err(format!(
                    "`{name}` is not a name such as example.org or 192.0.2.7, without scheme and port"
                )),
            }
        });
        names.collect::<Result<_, _>>().map(Self::LoopbackAnd)
    }
}

/// Middleware for every route of a listener.
pub(super) async fn only_allowed(
    State(allowed): State<Arc<AllowedHosts>>,
    request: Request,
    next: Next,
) -> Response {
    match allowed.refused(&request) {
        None => next.run(request).await,
        Some(host) => {
            let host = Detail::quoting(&host);
            let error = Error::HostNotAllowed { host };
            Problem::new(&error, &request_id(&request)).into_response()
        }
    }
}

/// The host of `host:port`; none where it is something else.
fn host(authority: &str) -> Option<&str> {
    let parsed: Authority = authority.parse().ok()?;
    let length = parsed.host().len();
    // Nothing before it: no user's name.
    let host = authority.get(..length)?;
    (length > 0 && host == parsed.host()).then_some(host)
}

/// Whether every browser takes the name for the own machine (RFC 6761, section 6.3).
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let host = host.to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Body;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn local() -> AllowedHosts {
        AllowedHosts::by_default(LOOPBACK, false)
    }

    fn is_answered(allowed: &AllowedHosts, target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = request.body(Body::empty()).unwrap();
        allowed.refused(&request).is_none()
    }

    #[test]
    fn names_of_the_loopback_are_answered() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST.",
            "vit.localhost:1",
            "127.0.0.1:8080",
            "127.8.9.1",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_answered(&local(), "/", &[host]), "{host}");
        }
        // Browsers always send one; whoever sends none is no browser.
        assert!(is_answered(&local(), "/", &[]));
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            "0.0.0.0:8080",
            "192.0.2.7",
            "[::2]",
            "",
            ":8080",
            "local host",
        ] {
            assert!(!is_answered(&local(), "/", &[host]), "{host}");
        }
        // Every name counts, wherever it stands.
        assert!(!is_answered(
            &local(),
            "http://evil.example/",
            &["localhost"]
        ));
        assert!(!is_answered(
            &local(),
            "http://localhost/",
            &["evil.example"]
        ));
        assert!(!is_answered(&local(), "/", &["localhost", "evil.example"]));
        assert!(is_answered(&local(), "http://localhost:8080/", &[]));
    }

    #[test]
    fn names_can_be_added_or_all_allowed() {
        let two: AllowedHosts = "Maps.Example.org, 2001:db8::7".parse().unwrap();
        assert!(is_answered(&two, "/", &["maps.example.org:443"]));
        assert!(is_answered(&two, "/", &["[2001:db8::7]:8080"]));
        assert!(is_answered(&two, "/", &["localhost"]));
        assert!(!is_answered(&two, "/", &["example.org"]));
        let any: AllowedHosts = "*".parse().unwrap();
        assert!(is_answered(&any, "/", &["evil.example"]));
    }

    #[test]
    fn what_is_no_name_is_no_setting() {
        for text in ["", "a,,b", "http://a", "a:80", "a/b", "u@a", "*.a b"] {
            assert!(text.parse::<AllowedHosts>().is_err(), "{text}");
        }
    }

    #[test]
    fn keys_or_another_address_leave_the_names_to_the_operator() {
        let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert_eq!(
            AllowedHosts::by_default(everywhere, false),
            AllowedHosts::Any
        );
        assert_eq!(AllowedHosts::by_default(LOOPBACK, true), AllowedHosts::Any);
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert_ne!(AllowedHosts::by_default(mapped, false), AllowedHosts::Any);
    }
}
