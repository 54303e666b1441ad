//! Files of a web server, which lists nothing: what may be there is asked for by name.

use patchlight_import::CancelFlag;
use ureq::http::{StatusCode, Uri};

use crate::{
    SourceError, WebAddress,
    download::{HttpFile, Interruption, Opened, RemoteFile},
    http::{self, Follow, Http, Request, header_text},
    remote::{Remote, RemoteInfo},
    select,
};

/// The folder that an address is in.
pub(crate) struct WebFolder<'a> {
    pub(crate) address: &'a WebAddress,
    pub(crate) http: &'a Http,
    pub(crate) cancel: &'a CancelFlag,
}

impl Remote for WebFolder<'_> {
    fn stat(&self, name: &str) -> Result<Option<RemoteInfo>, SourceError> {
        let url = self.address.url_of(name);
        // Not HEAD: addresses that are signed for GET take nothing else.
        let request = Request {
            probe: true,
            ..Request::get(url.clone())
        };
        let mut response = self.http.send(&request, Follow::All, self.cancel)?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            // An empty file has no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            _ => {
                let url: Uri = url.parse().unwrap_or_default();
                return Err(http::status_error(&url, &mut response).into());
            }
        }
        let headers = response.headers();
        let text = |name: &str| header_text(headers, name);
        // Some servers have a page for everything that is not there.
        if text("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            return Ok(None);
        }
        let size = match response.status() {
            StatusCode::OK => text("content-length"),
            _ => text("content-range").and_then(|range| Some(range.rsplit_once('/')?.1.to_owned())),
        };
        let size = size.and_then(|size| size.parse().ok());
        let etag = text("etag").filter(|etag| !etag.is_empty());
        let modified = text("last-modified").filter(|date| !date.is_empty());
        // Weak ones are not enough to go on with a download (RFC 9110, 13.1.5).
        let strong = etag.clone().filter(|etag| !etag.starts_with("W/"));
        Ok(Some(RemoteInfo {
            name: name.to_owned(),
            size,
            version: match (etag, &modified) {
                (Some(etag), _) => Some(etag.replace('"', "")),
                (None, Some(date)) => Some(format!("{date}, {} bytes", size.unwrap_or(0))),
                (None, None) => None,
            },
            condition: strong.or(modified),
        }))
    }

    fn list(&self) -> Result<Vec<RemoteInfo>, SourceError> {
        let mut found = Vec::new();
        for name in select::candidates() {
            found.extend(self.stat(name)?);
        }
        if found.is_empty() {
            return Err(SourceError::Unusable {
                source_name: self.address.to_string(),
                detail: format!(
                    "{} has no model.toml, config.json, model.safetensors or other file of a usual \
                     name there; a web server lists nothing, so name the file of weights or the \
                     archive itself",
                    self.address.host()
                ),
            });
        }
        Ok(found)
    }

    fn has_others(&self) -> bool {
        !self.address.has_query()
    }

    fn open(&self, info: &RemoteInfo, from: u64) -> Result<Opened, Interruption> {
        HttpFile {
            http: self.http,
            name: &info.name,
            url: &self.address.url_of(&info.name),
            bearer: None,
            if_range: info.condition.as_deref(),
        }
        .open(from)
    }

    fn host(&self) -> String {
        self.address.host().to_owned()
    }
}
