//! Imported models, kept for the next start.
//!
//! ```text
//! records/KEY.toml       what was asked for, and which directory it became
//! models/NAME-KEY/       model directories
//! downloads/NAME-KEY/    what is being fetched, and model directories that needed no import
//! locks/KEY.lock         one import at a time, among all processes on the volume
//! ```
//!
//! A record is written when its directory is whole, and a directory appears whole, so that a
//! process that ends at any moment leaves nothing that another one takes for a model.

mod choice;
mod entries;
mod key;
mod needs;
mod record;

use std::{
    fs,
    path::{Path, PathBuf},
};

use patchlight_import::{self as import, CancelFlag, ImportOptions, Runtime};
use patchlight_model::{MANIFEST, manifest::Origin};

pub use self::needs::check_import;
pub use self::{
    choice::{ImportChoice, PrecisionChoice},
    entries::{CacheEntry, PruneRule, Pruned},
};
use self::{key::Key, needs::Needs, record::Record};
use crate::{
    Content, Fetched, Observer, Progress, Source, SourceError, fetcher::Fetcher, local,
    lock::FileLock, space,
};

/// The cache of imported models.
#[derive(Clone, Debug)]
pub struct ModelCache {
    directory: PathBuf,
    fetcher: Fetcher,
    runtime: Option<Runtime>,
}

/// A model directory that a source has become.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prepared {
    /// Where it lies.
    pub directory: PathBuf,
    /// What was done for it.
    pub outcome: Outcome,
}

/// What was done for a model directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Nothing: it lies on this machine and is not of this cache.
    Local,
    /// It was found; nobody was asked.
    Found(Origin),
    /// It was fetched, and imported unless it was a model directory.
    Made(Origin),
}

/// Whether a path of this machine needs no cache: a model directory, or nothing at all, of which
/// whoever opens it says so.
pub fn is_served_as_it_is(path: &Path) -> bool {
    !path.exists() || path.join(MANIFEST).exists()
}

impl ModelCache {
    /// A cache where the fetcher's downloads are; the directory is made when something is kept.
    ///
    /// # Errors
    /// If nothing says where.
    pub fn new(fetcher: Fetcher) -> Result<Self, SourceError> {
        Ok(Self {
            directory: fetcher.cache()?.clone(),
            fetcher,
            runtime: None,
        })
    }

    /// The same with what imports run graphs with: a process may load the library once.
    pub fn with_runtime(self, runtime: Option<Runtime>) -> Self {
        Self { runtime, ..self }
    }

    /// The model directory of a source: the one that is kept, or one that is made now.
    ///
    /// # Errors
    /// If the source cannot be had or not be imported, there is no room, or it was cancelled.
    pub fn model_dir(
        &self,
        source: &Source,
        choice: &ImportChoice,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<Prepared, SourceError> {
        if let Source::Local(path) = source {
            return self.local_dir(source, path, choice, cancel, observer);
        }
        let asked = Key::of_source(source, choice);
        if let Some(found) = self.find(&asked) {
            return Ok(found);
        }
        let _lock = self.lock(&asked, source, cancel, observer)?;
        if let Some(found) = self.find(&asked) {
            return Ok(found);
        }
        let Some(fetched) = self.fetcher.fetch(source, cancel, observer)? else {
            return Err(SourceError::NoCache("the source is on this machine"));
        };
        let directory = match &fetched.content {
            Content::ModelDir(directory) => directory.clone(),
            Content::Checkpoint(weights) => {
                self.imported(source, &fetched, weights, choice, cancel, observer)?
            }
        };
        let record = Record::new(source, choice, &fetched.origin, &directory);
        record.write(&self.record(&asked))?;
        if let Some(downloads) = fetched.downloads {
            downloads.remove()?;
        }
        Ok(Prepared {
            directory,
            outcome: Outcome::Made(fetched.origin),
        })
    }

    /// A model directory of this machine as it is; a checkpoint or an exported graph imported,
    /// unless the same files were before.
    fn local_dir(
        &self,
        source: &Source,
        path: &Path,
        choice: &ImportChoice,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<Prepared, SourceError> {
        if is_served_as_it_is(path) {
            return Ok(Prepared {
                directory: path.to_owned(),
                outcome: Outcome::Local,
            });
        }
        let unusable = |detail| SourceError::Unusable {
            source_name: source.to_string(),
            detail,
        };
        let content = match path.is_dir() {
            true => local::content(path, &unusable)?,
            false => Content::Checkpoint(path.to_owned()),
        };
        let weights = match content {
            Content::Checkpoint(weights) => weights,
            Content::ModelDir(directory) => {
                return Ok(Prepared {
                    directory,
                    outcome: Outcome::Local,
                });
            }
        };
        let fetched = Fetched {
            content: Content::Checkpoint(weights.clone()),
            origin: Origin {
                address: source.to_string(),
                revision: local::revision(weights.parent().unwrap_or_else(|| Path::new(".")))?,
            },
            downloads: None,
        };
        let key = Key::of_content(source, &fetched.origin.revision, choice);
        let place = self.directory.join("models");
        let place = place.join(key.directory_name(&source.model_name()));
        let was_there = place.join(MANIFEST).is_file();
        let directory = self.imported(source, &fetched, &weights, choice, cancel, observer)?;
        let record = Record::new(source, choice, &fetched.origin, &directory);
        record.write(&self.record(&Key::of_source(source, choice)))?;
        Ok(Prepared {
            directory,
            outcome: match was_there {
                true => Outcome::Found(fetched.origin),
                false => Outcome::Made(fetched.origin),
            },
        })
    }

    /// What a record of an earlier process leads to, if all of it is still there.
    fn find(&self, key: &Key) -> Option<Prepared> {
        let path = self.record(key);
        let record = Record::read(&path)?;
        if !record.directory.join(MANIFEST).is_file() {
            return None;
        }
        record::touch(&path);
        Some(Prepared {
            directory: record.directory,
            outcome: Outcome::Found(record.origin),
        })
    }

    /// Imports a checkpoint, unless the same one was imported under another name before.
    fn imported(
        &self,
        source: &Source,
        fetched: &Fetched,
        weights: &Path,
        choice: &ImportChoice,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<PathBuf, SourceError> {
        let key = Key::of_content(source, &fetched.origin.revision, choice);
        // Another name of the same content, such as a branch and its commit, has another lock.
        let _lock = self.lock(&key, source, cancel, observer)?;
        let models = self.directory.join("models");
        let directory = models.join(key.directory_name(&source.model_name()));
        if directory.join(MANIFEST).is_file() {
            return Ok(directory);
        }
        fs::create_dir_all(&models).map_err(SourceError::file(&models, "make it"))?;
        let precision = choice.precision_of(weights);
        let needs = Needs::of(weights, precision, choice.check.is_some());
        let purpose = format!("importing {source}");
        space::check(&models, needs.disk, &purpose)?;
        space::check_memory(needs.memory, &purpose)?;
        let options = ImportOptions {
            origin: Some(fetched.origin.clone()),
            precision,
            check: choice.check_of(weights),
            runtime: self.runtime.clone(),
            cancel: cancel.clone(),
            ..ImportOptions::new(
                import::Source::Checkpoint(weights.to_owned()),
                directory.clone(),
            )
        };
        import::run(&options, &mut |progress| {
            observer.progress(Progress::Import {
                phase: progress.phase,
                done: progress.done,
                total: progress.total,
            });
        })?;
        Ok(directory)
    }

    fn record(&self, key: &Key) -> PathBuf {
        self.directory.join("records").join(format!("{key}.toml"))
    }

    fn lock_path(&self, key: &str) -> PathBuf {
        self.directory.join("locks").join(format!("{key}.lock"))
    }

    fn lock(
        &self,
        key: &Key,
        source: &Source,
        cancel: &CancelFlag,
        observer: &dyn Observer,
    ) -> Result<FileLock, SourceError> {
        let purpose = format!("fetches {source} into {}", self.directory.display());
        FileLock::acquire(
            &self.lock_path(&key.to_string()),
            &purpose,
            cancel,
            observer,
        )
    }
}
