//! The hub's requests and answers: what a revision holds, and what a file is.

use patchlight_escape::Excerpt;
use patchlight_import::CancelFlag;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::{
    Body,
    http::{Response, StatusCode, Uri},
};

use super::HubSettings;
use crate::{
    HttpError, HubAddress, HubError, SourceError,
    address::is_commit,
    http::{self, Follow, Http, Request, header_text},
    select::is_plain,
};

/// Asks for one model.
pub(super) struct Protocol<'a> {
    pub(super) settings: &'a HubSettings,
    pub(super) http: &'a Http,
    pub(super) address: &'a HubAddress,
    pub(super) cancel: &'a CancelFlag,
}

/// A revision, resolved.
#[derive(Debug)]
pub(super) struct RevisionInfo {
    pub(super) commit: String,
    /// Names of all its files.
    pub(super) files: Vec<String>,
}

/// A file of a commit.
#[derive(Debug)]
pub(super) struct FileInfo {
    /// Its name in the cache: of files in LFS their SHA-256, of others git's own hash.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
}

impl FileInfo {
    /// Of a file in LFS.
    pub(super) fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then_some(&*self.etag)
    }
}

/// What a path segment keeps.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl Protocol<'_> {
    /// The secret that is sent.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.settings.token.as_ref().map(|token| token.secret())
    }

    /// Where a file of a commit is asked for.
    pub(super) fn file_url(&self, name: &str, commit: &str) -> String {
        let segments = name
            .split('/')
            .map(|part| utf8_percent_encode(part, SEGMENT).to_string());
        let name = segments.collect::<Vec<_>>().join("/");
        format!(
            "{}/{}/resolve/{commit}/{name}",
            self.settings.endpoint,
            self.address.id()
        )
    }

    /// The commit that the revision is at, and its files.
    pub(super) fn revision(&self) -> Result<RevisionInfo, SourceError> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = utf8_percent_encode(self.address.revision.as_str(), SEGMENT);
        let url = format!(
            "{}/api/models/{}/revision/{revision}",
            self.settings.endpoint,
            self.address.id()
        );
        let mut response = self.send(url.clone(), false, Follow::All)?;
        let text = http::text(&url, &mut response)?;
        let answer: Answer = serde_json::from_str(&text)
            .map_err(|error| self.unexpected(format!("{url}: {}", Excerpt(error))))?;
        if !is_commit(&answer.sha) {
            let sha = Excerpt(&answer.sha);
            return Err(self.unexpected(format!("`{sha}` is no commit")));
        }
        let files = answer.siblings.into_iter().map(|file| file.rfilename);
        Ok(RevisionInfo {
            commit: answer.sha,
            files: files.filter(|name| is_plain(name)).collect(),
        })
    }

    /// What a file of a commit is, without its content. An answer that leads to another host is
    /// one: its headers say what is there.
    pub(super) fn file(&self, name: &str, commit: &str) -> Result<FileInfo, SourceError> {
        let response = self.send(self.file_url(name, commit), true, Follow::SameHost)?;
        let headers = response.headers();
        let text = |name: &str| header_text(headers, name);
        match text("x-repo-commit") {
            Some(found) if found == commit => {}
            Some(found) => {
                let found = Excerpt(&found).to_string();
                return Err(
                    self.unexpected(format!("{name} is of commit {found}, not of {commit}"))
                );
            }
            None => {
                return Err(self.unexpected(format!("{name} comes without X-Repo-Commit")));
            }
        }
        let etag = text("x-linked-etag")
            .or_else(|| text("etag"))
            .unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        // It becomes a file's name.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if etag.is_empty() || etag.len() > 128 || !etag.bytes().all(plain) {
            return Err(self.unexpected(format!("{name} comes without an ETag that can be used")));
        }
        let length = || text("content-length").filter(|_| !response.status().is_redirection());
        let size = text("x-linked-size").or_else(length);
        Ok(FileInfo {
            etag,
            size: size.and_then(|size| size.parse().ok()),
        })
    }

    fn send(&self, url: String, head: bool, follow: Follow) -> Result<Response<Body>, SourceError> {
        let request = Request {
            bearer: self.bearer(),
            head,
            ..Request::get(url)
        };
        let mut response = self.http.send(&request, follow, self.cancel)?;
        if response.status().is_client_error() {
            return Err(self.refusal(&request.url, &mut response));
        }
        Ok(response)
    }

    /// A refusal of the hub itself that came while a file was downloaded, as one of the hub.
    pub(super) fn explain(&self, error: SourceError) -> SourceError {
        let SourceError::Http(HttpError::Status { status, detail, .. }) = &error else {
            return error;
        };
        match *status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.forbidden(detail.clone()),
            _ => error,
        }
    }

    /// What a status and its headers say, and what to do.
    fn refusal(&self, url: &str, response: &mut Response<Body>) -> SourceError {
        let code = header_text(response.headers(), "x-error-code").unwrap_or_default();
        let said = header_text(response.headers(), "x-error-message").unwrap_or_default();
        let (id, endpoint) = (self.address.id(), self.settings.endpoint.clone());
        let token = self.settings.token.as_ref();
        let error = match (&*code, response.status()) {
            ("GatedRepo", _) => HubError::Gated {
                advice: match token {
                    None => format!(
                        "then set HF_TOKEN to a token of that account, from {endpoint}/settings/tokens"
                    ),
                    Some(token) => format!(
                        "with the account that the token of {} belongs to, and wait for the access \
                         where its owner grants it by hand",
                        token.from
                    ),
                },
                id,
                endpoint,
            },
            ("RevisionNotFound", _) => HubError::NoRevision {
                id,
                revision: self.address.revision.as_str().to_owned(),
                endpoint,
            },
            (_, StatusCode::UNAUTHORIZED)
                if said.starts_with("Invalid credentials")
                    || said.starts_with("Invalid username") =>
            {
                HubError::BadToken {
                    endpoint,
                    from: token.map_or_else(|| "nobody".to_owned(), |token| token.from.clone()),
                }
            }
            ("RepoNotFound", _) | (_, StatusCode::UNAUTHORIZED) => HubError::NoModel {
                advice: match token {
                    None => {
                        format!("for a private model set HF_TOKEN, from {endpoint}/settings/tokens")
                    }
                    Some(token) => {
                        format!("the token of {} may not see it", token.from)
                    }
                },
                id,
                endpoint,
            },
            (_, StatusCode::FORBIDDEN) => return self.forbidden(format!(": {}", Excerpt(said))),
            ("EntryNotFound", _) => {
                return self.unexpected(format!("{url} is in the listing and not there"));
            }
            _ => {
                let url: Uri = url.parse().unwrap_or_default();
                return http::status_error(&url, response).into();
            }
        };
        error.into()
    }

    fn forbidden(&self, detail: String) -> SourceError {
        let advice = match &self.settings.token {
            None => "set HF_TOKEN to the token of an account that may read it".to_owned(),
            Some(token) => format!("the token of {} needs the right to read it", token.from),
        };
        HubError::Forbidden {
            id: self.address.id(),
            endpoint: self.settings.endpoint.clone(),
            detail,
            advice,
        }
        .into()
    }

    fn unexpected(&self, detail: String) -> SourceError {
        HubError::Protocol {
            endpoint: self.settings.endpoint.clone(),
            detail,
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sha256_is_one() {
        let info = |etag: &str| FileInfo {
            etag: etag.to_owned(),
            size: None,
        };
        assert!(info(&"a1".repeat(32)).sha256().is_some());
        assert!(info(&"a1".repeat(20)).sha256().is_none());
        assert!(info(&"z1".repeat(32)).sha256().is_none());
    }
}
