//! From where the server fetches images that clients name by their URL.
//!
//! A server that fetches whatever it is told to reaches what its client cannot: the metadata of the
//! cloud's machine, and services behind the firewall (server-side request forgery). So it fetches
//! nothing unless the operator names hosts, and from those only over TLS and from addresses of the
//! public internet, unless the operator says otherwise.

mod addresses;

use std::{fmt, net::IpAddr, str::FromStr};

use url::{Host, Url};

use self::addresses::{AddressRange, is_public};

/// Hosts, and addresses besides the public ones, that images are fetched from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FetchFrom {
    origins: Vec<Origin>,
    ranges: Vec<AddressRange>,
}

/// A server that may be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Origin {
    tls: bool,
    host: HostRule,
    port: u16,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum HostRule {
    /// This name, or an address.
    Exactly(String),
    /// Every name that ends so, the dot included.
    Below(String),
}

/// Why a URL is not fetched, in words for the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAllowed(pub String);

impl FetchFrom {
    /// Whether images are fetched from anywhere.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Whether a URL leads to a server that may be asked; its addresses are another question.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, url: &Url) -> Result<(), NotAllowed> {
        let refuse = |detail: String| Err(NotAllowed(detail));
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("a URL with a name or a password is not fetched".to_owned());
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return refuse("the URL names no host".to_owned());
        };
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return refuse("images are fetched from https:// alone".to_owned()),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let fits = |origin: &&Origin| origin.port == port && origin.host.fits(host);
        let mut of_host = self.origins.iter().filter(fits).peekable();
        if of_host.peek().is_none() {
            return refuse(format!(
                "{host} is not one of the hosts that this server fetches images from; its operator \
                 names them with --fetch-from"
            ));
        }
        match of_host.any(|origin| origin.tls == tls) {
            true => Ok(()),
            false => refuse(format!(
                "images are fetched from {host} with {}:// alone",
                if tls { "http" } else { "https" }
            )),
        }
    }

    /// Whether an address that a host has may be connected to: one of the public internet, one in a
    /// range that was named, or one that stands in the URL itself.
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        is_public(address)
            || self.ranges.iter().any(|range| range.contains(address))
            // The list has it as a host, or the URL would not have been let through.
            || literal
                .parse::<IpAddr>()
                .is_ok_and(|literal| literal.to_canonical() == address)
    }
}

impl HostRule {
    fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exactly(name) => name == host,
            Self::Below(ending) => host.len() > ending.len() && host.ends_with(ending.as_str()),
        }
    }
}

/// Hosts and ranges of addresses with commas between them: `example.org`, `example.org:8443`,
/// `*.example.org`, `http://images.internal:8080`, `10.0.0.0/8`.
impl FromStr for FetchFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut found = Self::default();
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            if let Ok(range) = entry.parse::<AddressRange>() {
                found.ranges.push(range);
            } else {
                found.origins.push(entry.parse()?);
            }
        }
        if found.origins.is_empty() {
            return Err(format!(
                "`{text}` names no host: an address or a range of them says where hosts may be, and \
                 as a host it needs its scheme, such as https://192.0.2.7"
            ));
        }
        Ok(found)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        let fail = || {
            Err(format!(
                "`{entry}` is not a host such as example.org, example.org:8443, *.example.org or \
                 http://images.internal:8080, nor a range of addresses such as 10.0.0.0/8"
            ))
        };
        let (with_scheme, below) = match entry.split_once("://") {
            Some((scheme, rest)) => (entry.to_owned(), rest.starts_with("*.").then_some(scheme)),
            None => (
                format!("https://{entry}"),
                entry.starts_with("*.").then_some("https"),
            ),
        };
        let plain = match below {
            Some(_) => with_scheme.replacen("*.", "", 1),
            None => with_scheme,
        };
        let Ok(url) = plain.parse::<Url>() else {
            return fail();
        };
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && !plain.ends_with('/');
        let (Some(host), Some(port), true) = (url.host(), url.port_or_known_default(), bare) else {
            return fail();
        };
        let host = match (host, below) {
            (Host::Domain(name), Some(_)) if name.contains('.') => {
                HostRule::Below(format!(".{name}"))
            }
            (Host::Domain(name), None) if !name.contains('*') => HostRule::Exactly(name.to_owned()),
            // Without a scheme it is a range, which was tried before.
            (Host::Ipv4(_) | Host::Ipv6(_), None) if entry.contains("://") => {
                HostRule::Exactly(url.host_str().unwrap_or_default().to_owned())
            }
            _ => return fail(),
        };
        match url.scheme() {
            "https" | "http" => Ok(Self {
                tls: url.scheme() == "https",
                host,
                port,
            }),
            _ => fail(),
        }
    }
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> FetchFrom {
        text.parse().unwrap()
    }

    fn allowed(list: &FetchFrom, url: &str) -> bool {
        list.check(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn hosts_that_are_named_and_no_others() {
        let list = list("example.org, img.example.net:8443, *.cdn.example, http://internal:8080");
        for url in [
            "https://example.org/cat.jpg",
            "https://EXAMPLE.org./cat.jpg",
            "https://example.org:443/cat.jpg?x=1#y",
            "https://img.example.net:8443/",
            "https://a.cdn.example/",
            "https://a.b.cdn.example/",
            "http://internal:8080/x",
        ] {
            assert!(allowed(&list, url), "{url}");
        }
        for url in [
            "http://example.org/cat.jpg",
            "https://example.org:8443/",
            "https://img.example.net/",
            "https://example.org.evil.example/",
            "https://evilexample.org/",
            "https://cdn.example/",
            "https://evilcdn.example/",
            "https://internal:8080/x",
            "https://user:word@example.org/",
            "ftp://example.org/",
            "file:///etc/passwd",
            "https://192.0.2.1/",
            "https://3221225985/",
        ] {
            assert!(!allowed(&list, url), "{url}");
        }
    }

    #[test]
    fn addresses_in_disguise_are_addresses() {
        let list = list("example.org");
        // The loopback as a number, in octal, in hexadecimal, mapped into IPv6.
        for url in [
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://0x7f.1/",
            "https://[::ffff:127.0.0.1]/",
            "https://127.0.0.1/",
        ] {
            assert!(!allowed(&list, url), "{url}");
        }
    }

    #[test]
    fn private_addresses_are_connected_to_only_where_they_were_named() {
        let list = list("example.org, 10.1.0.0/16, fd00::/8");
        let allows = |text: &str| list.allows("example.org", text.parse().unwrap());
        for address in ["93.184.216.34", "10.1.2.3", "::ffff:10.1.2.3", "fd12::1"] {
            assert!(allows(address), "{address}");
        }
        for address in ["10.2.0.1", "127.0.0.1", "169.254.169.254", "::1", "fe80::1"] {
            assert!(!allows(address), "{address}");
        }
    }

    #[test]
    fn an_address_that_is_named_as_a_host_is_meant() {
        let list = list("http://127.0.0.1:8080");
        assert!(allowed(&list, "http://127.0.0.1:8080/cat.png"));
        assert!(list.allows("127.0.0.1", "127.0.0.1".parse().unwrap()));
        assert!(!list.allows("127.0.0.1", "127.0.0.2".parse().unwrap()));
    }

    #[test]
    fn what_is_no_list_says_what_one_is() {
        for text in [
            "",
            "10.0.0.0/8",
            "192.0.2.7",
            "example.org/path",
            "ftp://example.org",
            "*",
            "*.org",
            "https://user@example.org",
            "10.0.0.0/33",
        ] {
            assert!(text.parse::<FetchFrom>().is_err(), "{text}");
        }
    }
}
