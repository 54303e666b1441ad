//! Brings what an address stands for onto this machine.

use std::path::PathBuf;

use patchlight_import::CancelFlag;

use crate::{
    Content, Environment, Fetched, HubSettings, Observer, Retry, Source, SourceError,
    address::Place,
    bucket::{BucketFolder, BucketSettings},
    environment::default_cache_dir,
    http::Http,
    hub::Hub,
    remote::{Remote, RemoteFetch},
    web::WebFolder,
};

/// Fetches what addresses stand for.
#[derive(Clone, Debug)]
pub struct Fetcher {
    http: Http,
    hub: Hub,
    buckets: BucketSettings,
    /// Where downloads lie that are not the hub's.
    cache: Option<PathBuf>,
}

impl Fetcher {
    /// Reads settings and secrets from the environment. `cache` is where downloads are kept,
    /// `None` for the platform's directory for caches; the hub's own are in the hub's own place.
    ///
    /// # Errors
    /// If a file of secrets that is there cannot be read.
    pub fn new(
        environment: &Environment<'_>,
        cache: Option<PathBuf>,
        retry: Retry,
    ) -> Result<Self, SourceError> {
        let http = Http::new(retry);
        Ok(Self {
            hub: Hub::new(HubSettings::from_environment(environment)?, http.clone()),
            buckets: BucketSettings::from_environment(environment, retry)?,
            cache: cache.or_else(|| default_cache_dir(environment)),
            http,
        })
    }

    /// Where downloads and imports are kept.
    ///
    /// # Errors
    /// If nothing says where.
    pub(crate) fn cache(&self) -> Result<&PathBuf, SourceError> {
        self.cache
            .as_ref()
            .ok_or(SourceError::NoCache("name one with --cache-dir"))
    }

    /// Brings what an import needs; `None` of what is on this machine already.
    ///
    /// # Errors
    /// If it cannot be had, or there is nothing that can be imported.
    pub fn fetch(
        &self,
        source: &Source,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<Option<Fetched>, SourceError> {
        let remote = |remote: &dyn Remote, place: &Place| {
            RemoteFetch {
                source,
                place,
                remote,
                cache: self.cache()?,
                http: &self.http,
                cancel,
                observer,
            }
            .run()
        };
        match source {
            Source::Local(_) => return Ok(None),
            Source::Hub(address) => self.hub.fetch(address, cancel, observer),
            Source::Bucket(address) => {
                let folder = BucketFolder::new(address, &self.buckets, &self.http, cancel)?;
                remote(&folder, &address.place)
            }
            Source::Web(address) => {
                let folder = WebFolder {
                    address,
                    http: &self.http,
                    cancel,
                };
                remote(&folder, &address.place)
            }
        }
        .map(Some)
    }

    /// The same for an import whose directory the user names.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), and if it is a model directory already.
    pub fn checkpoint(
        &self,
        source: &Source,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<Option<Fetched>, SourceError> {
        let fetched = self.fetch(source, cancel, observer)?;
        match &fetched {
            Some(Fetched {
                content: Content::ModelDir(directory),
                ..
            }) => Err(SourceError::Unusable {
                source_name: source.to_string(),
                detail: format!(
                    "is a model directory already, which needs no import: serve it with --model \
                     {source}; it lies in {}",
                    directory.display()
                ),
            }),
            _ => Ok(fetched),
        }
    }
}
