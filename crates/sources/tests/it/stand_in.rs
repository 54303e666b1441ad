//! A hub on the loopback that speaks the real one's protocol: revisions and listings, metadata by
//! HEAD, redirects (relative ones of small files, those of large files to another host), ranges,
//! errors with their headers. It can be told to misbehave.
//!
//! Included by the tests of the crate and by those of the whole program.

#![allow(dead_code, reason = "each of the two test programs uses a part")]

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use sha2::{Digest, Sha256};

/// The hub and, on another port, where it keeps large files.
pub(crate) struct StandIn {
    port: u16,
    state: Arc<Mutex<State>>,
}

/// What it has and what it was asked.
#[derive(Default)]
struct State {
    storage_port: u16,
    repositories: BTreeMap<String, Repository>,
    /// Large files by their SHA-256.
    stored: BTreeMap<String, Vec<u8>>,
    /// A token that it takes.
    token: Option<String>,
    requests: Vec<Asked>,
    faults: VecDeque<Fault>,
    down: bool,
}

#[derive(Clone, Default)]
struct Repository {
    /// Files by commit and name.
    commits: BTreeMap<String, BTreeMap<String, File>>,
    /// Commits by branch and tag.
    references: BTreeMap<String, String>,
    access: Access,
}

#[derive(Clone)]
struct File {
    bytes: Vec<u8>,
    large: bool,
}

/// Who may read a model.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Access {
    /// Everybody.
    #[default]
    Open,
    /// Those with the token; to others it is not there.
    Private,
    /// Those who accepted its conditions, which nobody has.
    Gated,
}

/// A request as it came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Of the two ports, that of large files.
    pub(crate) storage: bool,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Asked {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What goes wrong with the next download of a large file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The connection breaks after so many bytes of the body.
    BreakAfter(usize),
    /// 429, with `Retry-After: 0`.
    Busy,
    /// 503.
    Unavailable,
    /// One byte is another one.
    WrongByte,
    /// The body is this many bytes shorter, and its length says so.
    Shorter(usize),
    /// A range is answered with the whole file.
    NoRange,
    /// Nothing more comes, and the connection stays, after so many bytes.
    StallAfter(usize),
}

impl StandIn {
    /// An empty hub.
    pub(crate) fn start() -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let storage = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let state = State {
            storage_port: port(&storage),
            ..State::default()
        };
        let stand_in = Self {
            port: port(&hub),
            state: Arc::new(Mutex::new(state)),
        };
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let state = Arc::clone(&stand_in.state);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    thread::spawn(move || answer(stream, is_storage, &state));
                }
            });
        }
        stand_in
    }

    /// `HF_ENDPOINT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a commit with these files to a branch. Weights are kept as large files are.
    pub(crate) fn commit(&self, id: &str, branch: &str, files: &[(&str, &[u8])]) -> String {
        let mut digest = Sha256::new();
        for (name, bytes) in files {
            digest.update(name);
            digest.update(bytes);
        }
        let commit = hex::encode(digest.finalize())[..40].to_owned();
        let mut state = self.lock();
        let mut tree = BTreeMap::new();
        for (name, bytes) in files {
            let large = ["safetensors", "bin", "npz", "onnx"]
                .iter()
                .any(|ending| name.ends_with(ending));
            if large {
                state.stored.insert(sha256(bytes), bytes.to_vec());
            }
            let bytes = bytes.to_vec();
            tree.insert((*name).to_owned(), File { bytes, large });
        }
        let repository = state.repositories.entry(id.to_owned()).or_default();
        repository.commits.insert(commit.clone(), tree);
        repository
            .references
            .insert(branch.to_owned(), commit.clone());
        commit
    }

    /// Adds a commit with the files of a directory.
    pub(crate) fn commit_directory(&self, id: &str, directory: &Path) -> String {
        let entries = fs::read_dir(directory).expect("a directory");
        let files: Vec<(String, Vec<u8>)> = entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file())
            .map(|path| {
                let name = path.file_name().expect("a name").to_string_lossy();
                (name.into_owned(), fs::read(&path).expect("a file"))
            })
            .collect();
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        self.commit(id, "main", &files)
    }

    /// Who may read a model.
    pub(crate) fn set_access(&self, id: &str, access: Access) {
        let mut state = self.lock();
        let repository = state.repositories.get_mut(id);
        repository.expect("the model").access = access;
    }

    /// The token that it takes.
    pub(crate) fn set_token(&self, token: &str) {
        self.lock().token = Some(token.to_owned());
    }

    /// What goes wrong, a download after the other.
    pub(crate) fn misbehave(&self, faults: &[Fault]) {
        self.lock().faults.extend(faults);
    }

    /// Answers nobody any more: connections are closed at once.
    pub(crate) fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// Every request since the last call.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().requests)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What git calls a file; only its form matters here.
fn object_id(bytes: &[u8]) -> String {
    sha256(bytes)[..40].to_owned()
}

/// An answer: status, headers, body.
struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn error(status: &'static str, code: &str, message: &str) -> Self {
        Self::new(status)
            .header("X-Error-Code", code)
            .header("X-Error-Message", message)
            .body(format!("{{\"error\":\"{message}\"}}"))
    }
}

/// One request a connection.
fn answer(stream: TcpStream, storage: bool, state: &Mutex<State>) {
    let Some(asked) = read_request(&stream, storage) else {
        return;
    };
    let (answer, fault) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.down {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        state.requests.push(asked.clone());
        match storage {
            true => {
                let fault = state.faults.pop_front();
                (state.storage_answer(&asked, fault), fault)
            }
            false => (state.hub_answer(&asked), None),
        }
    };
    let mut head = format!(
        "HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: {}\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut stream = stream;
    let mut body = answer.body.as_slice();
    if asked.method == "HEAD" {
        body = &[];
    }
    if let Some(Fault::BreakAfter(count) | Fault::StallAfter(count)) = fault {
        body = &body[..count.min(body.len())];
    }
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
    let _ = stream.flush();
    if let Some(Fault::StallAfter(_)) = fault {
        thread::sleep(std::time::Duration::from_secs(600));
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_request(stream: &TcpStream, storage: bool) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        storage,
        headers: BTreeMap::new(),
    };
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            return Some(asked);
        }
        let (name, value) = line.split_once(':')?;
        asked
            .headers
            .insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    None
}

impl State {
    fn hub_answer(&self, asked: &Asked) -> Answer {
        let path = asked.path.split('?').next().unwrap_or_default();
        let bearer = asked
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        if bearer.is_some() && bearer != self.token.as_deref() {
            let message = "Invalid credentials in Authorization header";
            return Answer::error("401 Unauthorized", "", message);
        }
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api", "models", org, name] => self.info(&format!("{org}/{name}"), "main", bearer),
            ["api", "models", org, name, "revision", revision] => {
                self.info(&format!("{org}/{name}"), revision, bearer)
            }
            ["api", "models", org, name, "tree", revision, ..] => {
                self.tree(&format!("{org}/{name}"), revision, bearer)
            }
            [
                "api",
                "resolve-cache",
                "models",
                org,
                name,
                revision,
                file @ ..,
            ] => self.small(&format!("{org}/{name}"), revision, &file.join("/"), bearer),
            [org, name, "resolve", revision, file @ ..] => {
                let id = format!("{org}/{name}");
                self.resolve(asked, &id, revision, &file.join("/"), bearer)
            }
            _ => Answer::error("404 Not Found", "", "no such page"),
        }
    }

    /// The files of a revision, if the caller may read them.
    fn files(
        &self,
        id: &str,
        revision: &str,
        bearer: Option<&str>,
    ) -> Result<(String, &BTreeMap<String, File>), Answer> {
        let missing = || match bearer {
            None => Answer::error("401 Unauthorized", "RepoNotFound", "Repository not found"),
            Some(_) => Answer::error("404 Not Found", "RepoNotFound", "Repository not found"),
        };
        let repository = self.repositories.get(id).ok_or_else(missing)?;
        match (repository.access, bearer) {
            (Access::Private, None) => return Err(missing()),
            (Access::Gated, None) => {
                let message = "Access to this model is restricted. You must be authenticated";
                return Err(Answer::error("401 Unauthorized", "GatedRepo", message));
            }
            (Access::Gated, Some(_)) => {
                let message = "Access to this model is restricted and you are not in the list";
                return Err(Answer::error("403 Forbidden", "GatedRepo", message));
            }
            _ => {}
        }
        let revision = revision.replace("%2F", "/");
        let commit = repository.references.get(&revision).unwrap_or(&revision);
        match repository.commits.get(commit) {
            Some(files) => Ok((commit.clone(), files)),
            None => {
                let message = "Invalid rev id";
                Err(Answer::error("404 Not Found", "RevisionNotFound", message))
            }
        }
    }

    fn info(&self, id: &str, revision: &str, bearer: Option<&str>) -> Answer {
        let (commit, files) = match self.files(id, revision, bearer) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let siblings: Vec<String> = files
            .keys()
            .map(|name| format!("{{\"rfilename\":\"{name}\"}}"))
            .collect();
        let body = format!(
            "{{\"id\":\"{id}\",\"modelId\":\"{id}\",\"sha\":\"{commit}\",\"private\":false,\
             \"tags\":[],\"downloads\":0,\"siblings\":[{}]}}",
            siblings.join(",")
        );
        Answer::new("200 OK")
            .header("Content-Type", "application/json")
            .body(body)
    }

    fn tree(&self, id: &str, revision: &str, bearer: Option<&str>) -> Answer {
        let files = match self.files(id, revision, bearer) {
            Ok((_, files)) => files,
            Err(answer) => return answer,
        };
        let entries: Vec<String> = files
            .iter()
            .map(|(name, file)| {
                let (size, oid) = (file.bytes.len(), object_id(&file.bytes));
                let lfs = match file.large {
                    true => format!(
                        ",\"lfs\":{{\"oid\":\"{}\",\"size\":{size},\"pointerSize\":130}}",
                        sha256(&file.bytes)
                    ),
                    false => String::new(),
                };
                format!("{{\"type\":\"file\",\"path\":\"{name}\",\"size\":{size},\"oid\":\"{oid}\"{lfs}}}")
            })
            .collect();
        Answer::new("200 OK")
            .header("Content-Type", "application/json")
            .body(format!("[{}]", entries.join(",")))
    }

    fn resolve(
        &self,
        asked: &Asked,
        id: &str,
        revision: &str,
        name: &str,
        bearer: Option<&str>,
    ) -> Answer {
        let (commit, files) = match self.files(id, revision, bearer) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let Some(file) = files.get(name) else {
            return Answer::error("404 Not Found", "EntryNotFound", "Entry not found")
                .header("X-Repo-Commit", commit);
        };
        if !file.large {
            let location = format!("/api/resolve-cache/models/{id}/{commit}/{name}");
            return Answer::new("307 Temporary Redirect")
                .header("X-Repo-Commit", commit)
                .header("Location", location);
        }
        let digest = sha256(&file.bytes);
        let location = format!(
            "http://127.0.0.1:{}/repos/{digest}?X-Signature=of-{}",
            self.storage_port,
            asked.method.to_lowercase()
        );
        Answer::new("302 Found")
            .header("X-Repo-Commit", commit)
            .header("X-Linked-Size", file.bytes.len())
            .header("X-Linked-Etag", format!("\"{digest}\""))
            .header("ETag", "\"of-the-redirect\"")
            .header("X-Xet-Hash", &digest)
            .header(
                "Link",
                format!(
                    "<https://cas.invalid/reconstruction/{digest}>; rel=\"xet-reconstruction-info\""
                ),
            )
            .header("Location", location)
            .body("Found. Redirecting")
    }

    fn small(&self, id: &str, commit: &str, name: &str, bearer: Option<&str>) -> Answer {
        match self.files(id, commit, bearer) {
            Ok((commit, files)) => {
                let bytes = files.get(name).map(|file| file.bytes.clone());
                let bytes = bytes.unwrap_or_default();
                Answer::new("200 OK")
                    .header("X-Repo-Commit", commit)
                    .header("ETag", format!("\"{}\"", object_id(&bytes)))
                    .body(bytes)
            }
            Err(answer) => answer,
        }
    }

    fn storage_answer(&self, asked: &Asked, fault: Option<Fault>) -> Answer {
        if asked.header("authorization").is_some() {
            return Answer::error("400 Bad Request", "", "two ways to sign at once");
        }
        match fault {
            Some(Fault::Busy) => {
                return Answer::error("429 Too Many Requests", "", "slow down")
                    .header("Retry-After", "0");
            }
            Some(Fault::Unavailable) => {
                return Answer::error("503 Service Unavailable", "", "later");
            }
            _ => {}
        }
        let digest = asked.path.trim_start_matches("/repos/").split('?').next();
        let Some(stored) = digest.and_then(|digest| self.stored.get(digest)) else {
            return Answer::error("404 Not Found", "", "no such object");
        };
        let mut bytes = stored.clone();
        match fault {
            Some(Fault::WrongByte) => {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            Some(Fault::Shorter(by)) => bytes.truncate(bytes.len() - by),
            _ => {}
        }
        let first = asked
            .header("range")
            .filter(|_| fault != Some(Fault::NoRange))
            .and_then(|range| {
                range
                    .strip_prefix("bytes=")?
                    .split('-')
                    .next()?
                    .parse()
                    .ok()
            });
        match first {
            None => Answer::new("200 OK").body(bytes),
            Some(first) if first >= bytes.len() => Answer::new("416 Range Not Satisfiable")
                .header("Content-Range", format!("bytes */{}", bytes.len())),
            Some(first) => {
                let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
                Answer::new("206 Partial Content")
                    .header("Content-Range", range)
                    .body(bytes.split_off(first))
            }
        }
    }
}
