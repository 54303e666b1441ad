//! The Hugging Face Hub, or a server that speaks its protocol.
//!
//! A revision is resolved to a commit once, with the listing of its files; everything after that
//! names the commit. Files go into the hub's own cache layout, so that what its Python client
//! downloaded is found, and the other way round. Files that the hub keeps in Git LFS or Xet come
//! from another host over plain HTTP, as they do for every client without Xet's own protocol.

mod cache;
mod protocol;
mod settings;

use std::{fs, path::PathBuf};

use patchlight_import::CancelFlag;
use patchlight_model::{MANIFEST, manifest::Origin};

pub use self::settings::{HubSettings, Token};
use self::{
    cache::Snapshot,
    protocol::{FileInfo, Protocol},
};
use crate::{
    Content, Fetched, HubAddress, HubError, Observer, SourceError,
    download::{Download, HttpFile},
    http::Http,
    local,
    lock::FileLock,
    select::{self, Parts, Selection},
    space,
};

/// A client of the hub.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    settings: HubSettings,
    http: Http,
}

impl Hub {
    pub(crate) fn new(settings: HubSettings, http: Http) -> Self {
        Self { settings, http }
    }

    /// Brings the files of a model that an import needs.
    ///
    /// # Errors
    /// If the hub refuses, cannot be reached and the cache does not have them, or has nothing that
    /// can be imported.
    pub(crate) fn fetch(
        &self,
        address: &HubAddress,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<Fetched, SourceError> {
        let root = self.settings.cache()?;
        if self.settings.offline {
            return offline(root, address, "HF_HUB_OFFLINE is set");
        }
        let protocol = Protocol {
            settings: &self.settings,
            http: &self.http,
            address,
            cancel,
        };
        let revision = match protocol.revision() {
            Ok(revision) => revision,
            Err(SourceError::Http(error)) if error.is_outage() => {
                // The files of the last time are better than none.
                let found = offline(root, address, &error.to_string()).map_err(|_| error)?;
                observer.note(&format!(
                    "{} cannot be reached; using {address} as it was downloaded before, at commit {}",
                    self.settings.endpoint, found.origin.revision
                ));
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        let snapshot = Snapshot::new(root, address, &revision.commit);
        let download = Downloads {
            protocol: &protocol,
            snapshot: &snapshot,
            observer,
        };
        let content = download.content(address, &revision.files)?;
        // Last, so that a reference never names a snapshot that lacks files.
        snapshot.write_reference(address.revision.as_str())?;
        Ok(Fetched {
            content,
            origin: origin(address, &revision.commit),
            downloads: None,
        })
    }
}

fn origin(address: &HubAddress, commit: &str) -> Origin {
    Origin {
        address: address.to_string(),
        revision: commit.to_owned(),
    }
}

/// What the cache has, without asking anyone.
fn offline(
    root: &std::path::Path,
    address: &HubAddress,
    because: &str,
) -> Result<Fetched, SourceError> {
    let missing = |detail: String| {
        SourceError::from(HubError::NotCached {
            address: address.to_string(),
            because: because.to_owned(),
            detail,
        })
    };
    let snapshot = Snapshot::of_reference(root, address)
        .ok_or_else(|| missing(format!("{} has nothing of it", root.display())))?;
    let content = local::content(snapshot.directory(), &missing)?;
    Ok(Fetched {
        content,
        origin: origin(address, snapshot.commit()),
        downloads: None,
    })
}

/// The downloads of one snapshot.
struct Downloads<'a> {
    protocol: &'a Protocol<'a>,
    snapshot: &'a Snapshot,
    observer: &'a dyn Observer,
}

impl Downloads<'_> {
    fn content(&self, address: &HubAddress, names: &[String]) -> Result<Content, SourceError> {
        let unusable = |detail: String| SourceError::Unusable {
            source_name: address.to_string(),
            detail,
        };
        match select::select(names).map_err(unusable)? {
            Selection::ModelDir => {
                self.bring(&[MANIFEST.to_owned()])?;
                let manifest = self.snapshot.read_text(MANIFEST)?;
                let files = select::files_of_manifest(&manifest)
                    .map_err(|error| unusable(format!("{MANIFEST}: {error}")))?;
                self.bring(&files)?;
                Ok(Content::ModelDir(self.snapshot.directory().to_owned()))
            }
            Selection::Checkpoint {
                mut descriptions,
                weights,
                parts,
            } => {
                let parts = match parts {
                    Parts::Listed(parts) => parts,
                    Parts::Shards => {
                        self.bring(std::slice::from_ref(&weights))?;
                        let index = self.snapshot.read_text(&weights)?;
                        select::shards(index.as_bytes(), names)
                            .map_err(|error| unusable(format!("{weights} {error}")))?
                    }
                };
                // Small ones first: what they say may end it.
                descriptions.extend(parts);
                descriptions.push(weights.clone());
                self.bring(&descriptions)?;
                Ok(Content::Checkpoint(self.snapshot.path(&weights)))
            }
        }
    }

    /// Has these files in the snapshot, after making sure that there is room for all of them.
    fn bring(&self, names: &[String]) -> Result<(), SourceError> {
        let mut wanted = Vec::new();
        for name in names {
            if !self.snapshot.has(name) {
                let info = self.protocol.file(name, self.snapshot.commit())?;
                wanted.push((name, info));
            }
        }
        let lacking = |(_, info): &(&String, FileInfo)| {
            let here = fs::metadata(self.snapshot.partial(&info.etag)).map_or(0, |file| file.len());
            info.size.unwrap_or(0).saturating_sub(here)
        };
        let needed: u64 = wanted.iter().map(lacking).sum();
        self.snapshot.make()?;
        if needed > 0 {
            let purpose = format!("downloading {}", self.protocol.address);
            space::check(self.snapshot.directory(), needed, &purpose)?;
        }
        for (name, info) in wanted {
            self.download(name, &info)?;
        }
        Ok(())
    }

    fn download(&self, name: &str, info: &FileInfo) -> Result<(), SourceError> {
        let purpose = format!("downloads {name} of {}", self.protocol.address);
        let cancel = self.protocol.cancel;
        let _lock = FileLock::acquire(
            &self.snapshot.lock(&info.etag),
            &purpose,
            cancel,
            self.observer,
        )?;
        let blob: PathBuf = self.snapshot.blob(&info.etag);
        if !blob.is_file() {
            let partial = self.snapshot.partial(&info.etag);
            Download {
                file: &HttpFile {
                    http: self.protocol.http,
                    name,
                    url: &self.protocol.file_url(name, self.snapshot.commit()),
                    bearer: self.protocol.bearer(),
                    // It is named by its commit, so it cannot change.
                    if_range: None,
                },
                size: info.size,
                sha256: info.sha256(),
            }
            .run(self.protocol.http, &partial, cancel, self.observer)
            .map_err(|error| self.protocol.explain(error))?;
            fs::rename(&partial, &blob).map_err(SourceError::file(&blob, "put it in place"))?;
        }
        self.snapshot.link(name, &info.etag)
    }
}
