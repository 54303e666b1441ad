//! One file over HTTP into one file here: resumed, retried, verified.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use patchlight_import::CancelFlag;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, StatusCode, Uri, header};

use crate::{
    HttpError, Observer, Progress, SourceError,
    http::{self, Follow, Http, Request},
};

/// Bytes that lie elsewhere.
pub(crate) trait RemoteFile {
    /// Its name at the source.
    fn name(&self) -> &str;

    /// Who has it.
    fn host(&self) -> String;

    /// Begins to read at a byte.
    fn open(&self, from: u64) -> Result<Opened, Interruption>;
}

/// How an answer begins.
pub(crate) enum Opened {
    /// With the first byte, whatever was asked for.
    Start(Box<dyn Read>),
    /// With the byte that was asked for.
    Rest(Box<dyn Read>),
    /// Not at all: what is here is not the beginning of what is there.
    Other,
}

/// What is downloaded.
pub(crate) struct Download<'a> {
    pub(crate) file: &'a dyn RemoteFile,
    /// Bytes that it has, where the server has said so.
    pub(crate) size: Option<u64>,
    /// Its SHA-256, where the server or the user has said so.
    pub(crate) sha256: Option<&'a str>,
}

/// A file of a web server.
pub(crate) struct HttpFile<'a> {
    pub(crate) http: &'a Http,
    pub(crate) name: &'a str,
    /// Where from; redirects are followed.
    pub(crate) url: &'a str,
    /// Sent to that host and to no other.
    pub(crate) bearer: Option<&'a str>,
    /// What makes a range be of the same content, where nothing else does.
    pub(crate) if_range: Option<&'a str>,
}

impl RemoteFile for HttpFile<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn host(&self) -> String {
        http::host_of(self.url)
    }

    fn open(&self, from: u64) -> Result<Opened, Interruption> {
        let request = Request {
            bearer: self.bearer,
            from,
            if_range: self.if_range,
            ..Request::get(self.url.to_owned())
        };
        let mut response = self.http.send_once(&request, Follow::All)?;
        let starts = begins_at(response.headers(), from);
        let status = response.status();
        match status {
            StatusCode::OK => Ok(Opened::Start(http::reader(response))),
            StatusCode::PARTIAL_CONTENT if starts => Ok(Opened::Rest(http::reader(response))),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
                Ok(Opened::Other)
            }
            _ => {
                let url: Uri = self.url.parse().unwrap_or_default();
                Err(http::status_error(&url, &mut response).into())
            }
        }
    }
}

impl Download<'_> {
    /// Downloads into a file, going on with what is there of an earlier try. The file is whole and
    /// has the announced length and digest afterwards; what is damaged is removed. The caller has
    /// the file to itself.
    ///
    /// # Errors
    /// If the server refuses, the connection breaks again and again without any progress, the
    /// content is not what was announced, or the file cannot be written.
    pub(crate) fn run(
        &self,
        http: &Http,
        partial: &Path,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<(), SourceError> {
        let mut file = PartialFile::open(partial)?;
        if self.size.is_some_and(|size| file.length > size) {
            file.restart()?;
        }
        let mut failures = 0;
        // Progress is what goes beyond every try before: a server that sends less than it announces
        // would otherwise be asked for ever.
        let mut furthest = file.length;
        loop {
            if self.size == Some(file.length) && (file.length > 0 || failures > 0) {
                break;
            }
            match self.attempt(&mut file, cancel, observer) {
                Ok(()) => break,
                Err(Interruption::For(error)) if error.may_pass() => {
                    failures = if file.length > furthest {
                        1
                    } else {
                        failures + 1
                    };
                    furthest = furthest.max(file.length);
                    http.pause(failures, error, cancel)?;
                }
                Err(Interruption::For(error)) => return Err(error.into()),
                Err(Interruption::Local(error)) => return Err(error),
            }
        }
        file.flush()?;
        self.verify(file, partial)
    }

    /// One request, and as much of the body as comes.
    fn attempt(
        &self,
        file: &mut PartialFile,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<(), Interruption> {
        let mut body = match self.file.open(file.length)? {
            Opened::Start(body) => {
                file.restart()?;
                body
            }
            Opened::Rest(body) => body,
            Opened::Other => {
                file.restart()?;
                return Err(self.broken("the server has no such range").into());
            }
        };
        let mut buffer = vec![0; 256 << 10];
        loop {
            if cancel.is_cancelled() {
                file.flush()?;
                return Err(Interruption::Local(SourceError::Cancelled));
            }
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(&error.to_string()).into()),
            };
            if count == 0 {
                break;
            }
            file.append(&buffer[..count])?;
            observer.progress(Progress::Download {
                file: self.file.name(),
                done: file.length,
                total: self.size,
            });
            if self.size.is_some_and(|size| file.length > size) {
                break;
            }
        }
        match self.size {
            Some(size) if file.length < size => {
                let detail = format!("{} of {size} bytes came", file.length);
                Err(self.broken(&detail).into())
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, detail: &str) -> HttpError {
        HttpError::Unreachable {
            host: self.file.host(),
            error: io::Error::other(format!("{}: {detail}", self.file.name())).into(),
        }
    }

    fn verify(&self, file: PartialFile, partial: &Path) -> Result<(), SourceError> {
        let length = file.length;
        let damaged = |detail: String| {
            fs::remove_file(partial).map_err(SourceError::file(partial, "remove it"))?;
            Err(SourceError::Damaged {
                file: self.file.name().to_owned(),
                detail,
            })
        };
        if let Some(size) = self.size.filter(|size| *size != length) {
            return damaged(format!(
                "more bytes came than the {size} that were announced"
            ));
        }
        if let Some(expected) = self.sha256 {
            let found = file.sha256()?;
            if !found.eq_ignore_ascii_case(expected) {
                return damaged(format!(
                    "its SHA-256 is {found}, and {expected} was announced"
                ));
            }
        }
        Ok(())
    }
}

/// Why an attempt ended before the file was whole.
pub(crate) enum Interruption {
    /// The network, or the server.
    For(HttpError),
    /// This machine.
    Local(SourceError),
}

impl From<HttpError> for Interruption {
    fn from(error: HttpError) -> Self {
        Self::For(error)
    }
}

impl From<SourceError> for Interruption {
    fn from(error: SourceError) -> Self {
        Self::Local(error)
    }
}

/// Whether a range begins where it was asked to.
fn begins_at(headers: &HeaderMap, first: u64) -> bool {
    http::header_text(headers, header::CONTENT_RANGE.as_str())
        .and_then(|range| {
            let (begin, _) = range.strip_prefix("bytes ")?.split_once('-')?;
            begin.parse::<u64>().ok()
        })
        .is_some_and(|begin| begin == first)
}

/// A file that grows.
struct PartialFile {
    path: std::path::PathBuf,
    file: File,
    length: u64,
}

impl PartialFile {
    fn open(path: &Path) -> Result<Self, SourceError> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(SourceError::file(path, "make it"))?;
        let length = file
            .seek(SeekFrom::End(0))
            .map_err(SourceError::file(path, "read it"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
        })
    }

    fn restart(&mut self) -> Result<(), SourceError> {
        let restarted = self.file.set_len(0).and_then(|()| self.file.rewind());
        restarted.map_err(SourceError::file(&self.path, "write it"))?;
        self.length = 0;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.file
            .write_all(bytes)
            .map_err(SourceError::file(&self.path, "write it"))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// A file that takes its final name later must not turn out empty after a power cut.
    fn flush(&self) -> Result<(), SourceError> {
        self.file
            .sync_data()
            .map_err(SourceError::file(&self.path, "write it"))
    }

    fn sha256(mut self) -> Result<String, SourceError> {
        let mut digest = Sha256::new();
        let read = self.file.rewind().and_then(|()| {
            let mut buffer = vec![0; 1 << 20];
            loop {
                match self.file.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => digest.update(&buffer[..count]),
                }
            }
        });
        read.map_err(SourceError::file(&self.path, "read it"))?;
        Ok(hex::encode(digest.finalize()))
    }
}
