//! `https://HOST/PATH`.

use std::{fmt, net::IpAddr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use ureq::http::uri::Authority;

use super::Place;

/// A folder or file of a web server.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct WebAddress {
    scheme: &'static str,
    authority: String,
    /// What is meant there, its names decoded.
    pub place: Place,
    /// What follows `?`: it may hold a signature, so it is sent and never shown.
    query: Option<String>,
}

/// What a path in a URL keeps besides `%XX`.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

impl WebAddress {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(scheme: &str, rest: &str) -> Result<Self, String> {
        // The digest stands behind the query, and belongs to the path.
        let (rest, pin) = match rest.find('#') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(
                "a name and a password in an address end in logs; give the server another way to \
                 know you, such as a signed address (?…)"
                    .to_owned(),
            );
        }
        let parsed: Authority = authority
            .parse()
            .map_err(|_| "https://HOST/PATH is expected".to_owned())?;
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| "its path is no text".to_owned())?;
        let place = Place::parse(&format!("{path}{pin}"))?;
        if query.is_some() && *place.target() == super::Target::Folder {
            return Err("what follows `?` is of one file, and this is a folder".to_owned());
        }
        let scheme = match scheme {
            "https" => "https",
            // Weights that anybody on the way may exchange are taken only if they are known.
            _ if place.pin().is_some() || is_loopback(parsed.host()) => "http",
            _ => {
                return Err(
                    "without TLS anybody on the way may exchange the weights: take https://, or add \
                     #sha256=… of the file"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            scheme,
            authority: authority.to_ascii_lowercase(),
            place,
            query: query.map(str::to_owned),
        })
    }

    /// The hub's name for what its page in a browser shows: `ORG/NAME` or `ORG/NAME@REVISION`.
    pub(super) fn page_of_hub(rest: &str) -> Option<String> {
        let path = rest
            .strip_prefix("huggingface.co/")
            .or_else(|| rest.strip_prefix("hf.co/"))?;
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        match parts[..] {
            [org, name] => Some(format!("{org}/{name}")),
            [org, name, "tree", revision] => Some(format!("{org}/{name}@{revision}")),
            _ => None,
        }
    }

    pub(super) fn without_query(&self) -> Self {
        Self {
            query: None,
            ..self.clone()
        }
    }

    pub(crate) fn host(&self) -> &str {
        self.authority
            .rsplit_once(':')
            .map_or(&*self.authority, |(host, _)| host)
    }

    /// Where a file in its folder is; the address itself is asked for with its query.
    pub(crate) fn url_of(&self, name: &str) -> String {
        let path = self.place.path(name);
        let encoded = utf8_percent_encode(&path, PATH);
        let url = format!("{}://{}/{encoded}", self.scheme, self.authority);
        match &self.query {
            Some(query) => format!("{url}?{query}"),
            None => url,
        }
    }

    /// All of it, secrets included.
    pub(super) fn url(&self) -> String {
        match &self.query {
            Some(query) => format!("{self}?{query}"),
            None => self.to_string(),
        }
    }

    pub(crate) fn has_query(&self) -> bool {
        self.query.is_some()
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.authority, self.place)
    }
}

/// Whether nobody is on the way.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
