//! Brings what an address stands for onto this machine.

use patchlight_import::CancelFlag;

use crate::{
    Content, Environment, Fetched, HubSettings, Observer, Retry, Source, SourceError, hub::Hub,
};

/// Fetches what addresses stand for.
#[derive(Clone, Debug)]
pub struct Fetcher {
    hub: Hub,
}

impl Fetcher {
    /// Reads settings and secrets from the environment.
    ///
    /// # Errors
    /// If a file of secrets that is there cannot be read.
    pub fn new(environment: &Environment<'_>, retry: Retry) -> Result<Self, SourceError> {
        let settings = HubSettings::from_environment(environment)?;
        Ok(Self {
            hub: Hub::new(settings, retry),
        })
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
        match source {
            Source::Local(_) => Ok(None),
            Source::Hub(address) => self.hub.fetch(address, cancel, observer).map(Some),
        }
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
