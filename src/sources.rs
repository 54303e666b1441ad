//! Models by their address: what the flags say of it, and who is told how far it is.

mod progress;

use std::path::PathBuf;

use patchlight_engine::{Device, Runtime};
use patchlight_import::{CancelFlag, CheckOptions};
use patchlight_sources::{
    Environment, Fetcher, ImportChoice, ModelCache, Outcome, PrecisionChoice, Retry, Source,
    SourceError, default_cache_dir, is_served_as_it_is,
};

pub use self::progress::ProgressLine;

/// How models that are named by an address are imported, and where they are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    /// Where imported models are kept; `None` for the platform's directory for caches.
    pub cache_dir: Option<PathBuf>,
    /// In which numbers they compute.
    pub precision: PrecisionChoice,
    /// Images on which lower precision is compared with float32.
    pub check: Option<CheckOptions>,
}

impl SourceSettings {
    /// The cache of imported models.
    ///
    /// # Errors
    /// If there is no place for it, or the hub's token cannot be read.
    pub fn cache(&self) -> Result<ModelCache, SourceError> {
        let environment = Environment::of_process();
        let fetcher = Fetcher::new(&environment, self.cache_dir.clone(), Retry::default())?;
        ModelCache::new(fetcher)
    }

    /// Where models, and what is made of them, are kept; `None` if there is no place for it.
    pub fn cache_dir_or_default(&self) -> Option<PathBuf> {
        let by_default = || default_cache_dir(&Environment::of_process());
        self.cache_dir.clone().or_else(by_default)
    }

    /// The model directory of a source, fetched and imported if it is an address and was not
    /// before. May take minutes and blocks the calling thread.
    ///
    /// # Errors
    /// If the source cannot be had or not be imported, there is no room, or it was cancelled.
    pub fn model_dir(
        &self,
        source: &Source,
        device: Device,
        runtime: Option<&Runtime>,
        cancel: &CancelFlag,
    ) -> Result<PathBuf, SourceError> {
        if let Source::Local(directory) = source
            && is_served_as_it_is(directory)
        {
            return Ok(directory.clone());
        }
        let choice = ImportChoice {
            precision: self.precision,
            gpu: device.expects_gpu(),
            check: self.check.clone(),
        };
        let progress = ProgressLine::new();
        let prepared = self
            .cache()?
            .with_runtime(runtime.cloned())
            .model_dir(source, &choice, cancel, &progress)?;
        progress.finish();
        let directory = prepared.directory;
        let shown = directory.display();
        match prepared.outcome {
            Outcome::Local => {}
            Outcome::Found(origin) => tracing::info!(
                %source, revision = origin.revision, directory = %shown,
                "found in the cache; nobody was asked"
            ),
            Outcome::Made(origin) => tracing::info!(
                %source, revision = origin.revision, directory = %shown, "imported"
            ),
        }
        Ok(directory)
    }
}
