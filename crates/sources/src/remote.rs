//! Folders, files and archives on servers that keep files and know nothing of models.
//!
//! ```text
//! downloads/NAME-KEY/    the files of one state of a source, or what its archive held
//! ```
//!
//! The key is of the address and of what the server calls the content of each file (ETag), so that
//! a change at the source never mixes with what is here. A file has its name when it is whole.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use patchlight_import::CancelFlag;
use patchlight_model::{MANIFEST, manifest::Origin};
use sha2::{Digest, Sha256};

use crate::{
    Content, Downloaded, Fetched, HttpError, Observer, Source, SourceError,
    address::{ArchiveFormat, Place, Target},
    archive,
    download::{Download, Interruption, Opened, RemoteFile},
    http::{Http, MAX_TEXT},
    local,
    lock::FileLock,
    select::{self, Parts, Selection},
    space,
};

/// What a server says of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RemoteInfo {
    /// Its name in the folder, `/` between folders.
    pub(crate) name: String,
    pub(crate) size: Option<u64>,
    /// What is another one when the content is; `None` where the server says nothing of the kind.
    pub(crate) version: Option<String>,
    /// What makes a server send the rest of the same content, or say that it is another one.
    pub(crate) condition: Option<String>,
}

/// A folder on a server.
pub(crate) trait Remote {
    /// What it says of a file; `None` where there is none.
    fn stat(&self, name: &str) -> Result<Option<RemoteInfo>, SourceError>;

    /// The files that are there, as far as they may matter.
    fn list(&self) -> Result<Vec<RemoteInfo>, SourceError>;

    /// Whether other files can be asked for than the one that was named.
    fn has_others(&self) -> bool {
        true
    }

    /// Begins to read a file at a byte.
    fn open(&self, info: &RemoteInfo, from: u64) -> Result<Opened, Interruption>;

    /// Who has it.
    fn host(&self) -> String;
}

/// One fetch.
pub(crate) struct RemoteFetch<'a> {
    pub(crate) source: &'a Source,
    pub(crate) place: &'a Place,
    pub(crate) remote: &'a dyn Remote,
    /// The cache's directory.
    pub(crate) cache: &'a Path,
    pub(crate) http: &'a Http,
    pub(crate) cancel: &'a CancelFlag,
    pub(crate) observer: &'a dyn Observer,
}

impl RemoteFetch<'_> {
    /// Brings what an import needs.
    ///
    /// # Errors
    /// If the server refuses or cannot be reached, there is nothing that can be imported, there is
    /// no room, or it was cancelled.
    pub(crate) fn run(&self) -> Result<Fetched, SourceError> {
        let (files, archive) = match self.place.target() {
            Target::Folder => (self.folder()?, None),
            Target::Weights(name) => (self.weights(name)?, None),
            Target::Archive(name, format) => (vec![self.existing(name)?], Some(*format)),
        };
        let revision = revision(&files);
        let key = key(self.source, revision.as_deref().unwrap_or("unversioned"));
        let lock = self.cache.join("locks").join(format!("{key}.lock"));
        let purpose = format!("downloads {}", self.source);
        let lock = FileLock::acquire(&lock, &purpose, self.cancel, self.observer)?;
        let name = format!(
            "{}-{}",
            self.source.model_name(),
            key.get(..16).unwrap_or(&key)
        );
        let directory = self.cache.join("downloads").join(name);
        if revision.is_none() && directory.exists() {
            // What an earlier try left may be of another content.
            fs::remove_dir_all(&directory).map_err(SourceError::file(&directory, "remove it"))?;
        }
        fs::create_dir_all(&directory).map_err(SourceError::file(&directory, "make it"))?;
        let content = match archive {
            Some(format) => self.archive(&files[0], format, &directory)?,
            None => {
                self.bring(&files, &directory)?;
                match self.place.target() {
                    Target::Weights(name) => Content::Checkpoint(directory.join(name)),
                    _ => local::content(&directory, &|detail| self.unusable(detail))?,
                }
            }
        };
        let revision = match revision {
            Some(revision) => revision,
            None => content_digest(&directory)?,
        };
        Ok(Fetched {
            downloads: matches!(content, Content::Checkpoint(_))
                .then(|| Downloaded::new(directory, lock)),
            content,
            origin: Origin {
                address: self.source.to_string(),
                revision,
            },
        })
    }

    /// What is needed of a folder.
    fn folder(&self) -> Result<Vec<RemoteInfo>, SourceError> {
        let listed = self.remote.list()?;
        let names: Vec<String> = listed.iter().map(|info| info.name.clone()).collect();
        let wanted = match select::select(&names).map_err(|error| self.unusable(error))? {
            Selection::ModelDir => {
                let manifest = self.text(&listed, MANIFEST)?;
                let mut files = select::files_of_manifest(&manifest)
                    .map_err(|error| self.unusable(format!("{MANIFEST}: {error}")))?;
                files.push(MANIFEST.to_owned());
                files
            }
            Selection::Checkpoint {
                mut descriptions,
                weights,
                parts,
            } => {
                descriptions.extend(match parts {
                    Parts::Listed(parts) => parts,
                    Parts::Shards => {
                        let index = self.text(&listed, &weights)?;
                        select::listed_shards(index.as_bytes())
                            .map_err(|error| self.unusable(format!("{weights} {error}")))?
                    }
                });
                descriptions.push(weights);
                descriptions
            }
        };
        let mut known: BTreeMap<String, RemoteInfo> = listed
            .into_iter()
            .map(|info| (info.name.clone(), info))
            .collect();
        let info = |name: String| match known.remove(&name) {
            Some(info) => Ok(info),
            None => self.existing(&name),
        };
        wanted.into_iter().map(info).collect()
    }

    /// A file of weights, and what describes it.
    fn weights(&self, name: &str) -> Result<Vec<RemoteInfo>, SourceError> {
        let weights = self.existing(name)?;
        let mut files = Vec::new();
        if self.remote.has_others() {
            for other in select::beside(name) {
                files.extend(self.remote.stat(&other)?);
            }
        }
        files.push(weights);
        Ok(files)
    }

    fn existing(&self, name: &str) -> Result<RemoteInfo, SourceError> {
        self.remote.stat(name)?.ok_or_else(|| {
            self.unusable(format!(
                "{} has no file {}; check the address",
                self.remote.host(),
                self.place.path(name)
            ))
        })
    }

    /// A small file, for what it says of others.
    fn text(&self, listed: &[RemoteInfo], name: &str) -> Result<String, SourceError> {
        let info = match listed.iter().find(|info| info.name == name) {
            Some(info) => info.clone(),
            None => self.existing(name)?,
        };
        let mut failures = 0;
        loop {
            let read = self.remote.open(&info, 0).and_then(|opened| {
                let mut text = String::new();
                if let Opened::Start(body) | Opened::Rest(body) = opened {
                    let read = body.take(MAX_TEXT).read_to_string(&mut text);
                    read.map_err(|error| HttpError::Unreachable {
                        host: self.remote.host(),
                        error: error.into(),
                    })?;
                }
                Ok(text)
            });
            match read {
                Ok(text) => return Ok(text),
                Err(Interruption::For(error)) if error.may_pass() => {
                    failures += 1;
                    self.http.pause(failures, error, self.cancel)?;
                }
                Err(Interruption::For(error)) => return Err(error.into()),
                Err(Interruption::Local(error)) => return Err(error),
            }
        }
    }

    /// Has these files in a directory, after making sure that there is room for them.
    fn bring(&self, files: &[RemoteInfo], directory: &Path) -> Result<(), SourceError> {
        let missing: Vec<&RemoteInfo> = files
            .iter()
            .filter(|info| !directory.join(&info.name).is_file())
            .collect();
        let needed = missing.iter().map(|info| {
            let here = fs::metadata(partial(&directory.join(&info.name)));
            let here = here.map_or(0, |file| file.len());
            info.size.unwrap_or(0).saturating_sub(here)
        });
        space::check(
            directory,
            needed.sum(),
            &format!("downloading {}", self.source),
        )?;
        for info in missing {
            self.download(info, &directory.join(&info.name))?;
        }
        Ok(())
    }

    fn download(&self, info: &RemoteInfo, path: &Path) -> Result<(), SourceError> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder).map_err(SourceError::file(folder, "make it"))?;
        let partial = partial(path);
        let is_named = match self.place.target() {
            Target::Folder => false,
            Target::Weights(name) | Target::Archive(name, _) => *name == info.name,
        };
        Download {
            file: &Named {
                remote: self.remote,
                info,
            },
            size: info.size,
            sha256: self.place.pin().filter(|_| is_named),
        }
        .run(self.http, &partial, self.cancel, self.observer)?;
        fs::rename(&partial, path).map_err(SourceError::file(path, "put it in place"))
    }

    /// Downloads an archive and unpacks what is needed of it.
    fn archive(
        &self,
        info: &RemoteInfo,
        format: ArchiveFormat,
        directory: &Path,
    ) -> Result<Content, SourceError> {
        let unpacked = directory.join("unpacked");
        if !unpacked.is_dir() {
            self.bring(std::slice::from_ref(info), directory)?;
            let archive = directory.join(&info.name);
            let half = directory.join("unpacked.partial");
            if half.exists() {
                fs::remove_dir_all(&half).map_err(SourceError::file(&half, "remove it"))?;
            }
            archive::unpack(&archive, format, &half, self.cancel).map_err(|error| match error {
                archive::ArchiveError::Refused(detail) => self.unusable(detail),
                archive::ArchiveError::Source(error) => error,
            })?;
            fs::rename(&half, &unpacked).map_err(SourceError::file(&unpacked, "make it"))?;
        }
        let content = local::content(&unpacked, &|detail| self.unusable(detail))?;
        let archive = directory.join(&info.name);
        if archive.exists() {
            fs::remove_file(&archive).map_err(SourceError::file(&archive, "remove it"))?;
        }
        Ok(content)
    }

    fn unusable(&self, detail: String) -> SourceError {
        SourceError::Unusable {
            source_name: self.source.to_string(),
            detail,
        }
    }
}

/// A file of a remote folder, to download it.
struct Named<'a> {
    remote: &'a dyn Remote,
    info: &'a RemoteInfo,
}

impl RemoteFile for Named<'_> {
    fn name(&self) -> &str {
        &self.info.name
    }

    fn host(&self) -> String {
        self.remote.host()
    }

    fn open(&self, from: u64) -> Result<Opened, Interruption> {
        match (from, &self.info.condition) {
            // Nothing tells whether it is still the same.
            (1.., None) => Ok(Opened::Other),
            _ => self.remote.open(self.info, from),
        }
    }
}

/// What a file is called while it is downloaded.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".incomplete");
    name.into()
}

/// One text for the state of all files: the server's own of a single file, else the digest of all
/// of them. `None` where the server does not tell of one.
fn revision(files: &[RemoteInfo]) -> Option<String> {
    if let [only] = files {
        return only.version.clone();
    }
    let mut listed: Vec<(&str, &str)> = Vec::with_capacity(files.len());
    for info in files {
        listed.push((&info.name, info.version.as_deref()?));
    }
    listed.sort_unstable();
    let mut digest = Sha256::new();
    for part in listed
        .into_iter()
        .flat_map(|(name, version)| [name, version])
    {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    Some(hex::encode(digest.finalize()))
}

fn key(source: &Source, revision: &str) -> String {
    let mut digest = Sha256::new();
    for part in ["download", &source.without_revision().to_string(), revision] {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

/// SHA-256 over everything in a directory.
fn content_digest(directory: &Path) -> Result<String, SourceError> {
    let mut digest = Sha256::new();
    for name in local::names(directory)? {
        let path = directory.join(&name);
        let failed = || SourceError::file(&path, "read it");
        let mut file = fs::File::open(&path).map_err(failed())?;
        digest.update(&name);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(failed())? {
                0 => break,
                count => digest.update(&buffer[..count]),
            }
        }
    }
    Ok(hex::encode(digest.finalize()))
}
