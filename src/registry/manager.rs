//! Loads, replaces and removes models without dropping a request.
//!
//! A new model is verified, loaded and run once beside the old one, and only then takes its name.
//! Requests that came before finish with the old one, whose worker ends with the last of them; what
//! it did in the background is called off.
//! Changes happen one at a time, and the next begins when the old model has gone: at any moment
//! memory holds what is served and at most one model more.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use patchlight_model::ModelInfo;
use patchlight_sources::Source;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::{self, JoinError, JoinHandle},
};

use super::{LoadError, Loader, Registry};
use crate::{Error, Result, batch, classify::Classifier, error::Detail};

/// A model to serve, on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelDir {
    /// What clients call it.
    pub name: String,
    /// Where it lies.
    pub directory: PathBuf,
}

/// The only writer of a [`Registry`]. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct ModelManager {
    loader: Arc<Loader>,
    registry: Registry,
    /// Locked while what is served changes.
    threads: Arc<Mutex<Threads>>,
}

/// The threads below what is served.
#[derive(Debug)]
struct Threads {
    /// The batch workers of each model.
    workers: BTreeMap<Arc<str>, batch::Workers>,
    /// Ends when the model has gone that was replaced or removed last.
    draining: Option<JoinHandle<()>>,
}

/// The result of a change.
#[derive(Clone, Debug)]
pub struct ModelChange {
    /// What is served under the name now.
    pub model: Arc<Classifier>,
    /// What was done.
    pub outcome: ChangeOutcome,
    /// How long verifying, loading and the first run took.
    pub took: Duration,
}

/// What was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeOutcome {
    /// The name is new.
    Added,
    /// The name had another model.
    Replaced,
    /// The directory holds what is served already.
    Unchanged,
}

/// Whether a model is loaded that is served already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReloadMode {
    Always,
    IfChanged,
}

impl ModelManager {
    /// Loads all models, the first of which is the default. Blocks the calling thread.
    ///
    /// # Errors
    /// The first model that cannot be served, by name.
    pub fn start(
        loader: Loader,
        first: &ModelDir,
        others: &[ModelDir],
    ) -> std::result::Result<Self, (String, LoadError)> {
        let load = |model: &ModelDir| {
            loader
                .load(&model.name, &model.directory)
                .map_err(|error| (model.name.clone(), error))
        };
        let (model, worker) = load(first)?;
        let registry = Registry::new(&first.name, Arc::new(model));
        let mut workers = BTreeMap::from([(first.name.as_str().into(), worker)]);
        for other in others {
            let (model, worker) = load(other)?;
            registry.insert(&other.name, Arc::new(model));
            workers.insert(other.name.as_str().into(), worker);
        }
        Ok(Self {
            loader: Arc::new(loader),
            registry,
            threads: Arc::new(Mutex::new(Threads {
                workers,
                draining: None,
            })),
        })
    }

    /// What is served.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What all models share.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Serves the model of a source under this name, instead of the one before if there is one. An
    /// address is fetched and imported first, while other models may be changed. Goes on when the
    /// future is dropped.
    ///
    /// # Errors
    /// [`Error::ModelRefused`] with the reason; what was served before still is.
    pub async fn put(&self, name: &str, source: Source) -> Result<ModelChange> {
        let (manager, name) = (self.clone(), name.to_owned());
        detached(async move {
            let loader = Arc::clone(&manager.loader);
            let fetching = task::spawn_blocking(move || loader.fetch(&source, &loader.cancel));
            let directory = refused_or(fetching.await)?;
            let threads = manager.begin().await;
            manager
                .change(threads, &name, directory, ReloadMode::Always)
                .await
        })
        .await
    }

    /// Loads a model again from its directory. Goes on when the future is dropped.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], or [`Error::ModelRefused`] with the reason; what was served before
    /// still is.
    pub async fn reload(&self, name: &str) -> Result<ModelChange> {
        let (manager, name) = (self.clone(), name.to_owned());
        detached(async move { manager.reload_one(&name, ReloadMode::Always).await }).await
    }

    /// Loads every model whose directory holds another one by now, and says in the log what became
    /// of each.
    pub async fn reload_changed(&self) {
        for name in self.registry.names() {
            match self.reload_one(&name, ReloadMode::IfChanged).await {
                Ok(change) if change.outcome == ChangeOutcome::Unchanged => {
                    tracing::info!(model = &*name, "unchanged");
                }
                Ok(_) => {}
                Err(error) => tracing::error!(model = &*name, %error, "not reloaded"),
            }
        }
    }

    /// Serves no model under this name any more. What is under way is finished.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], and [`Error::DefaultModel`] for the default model.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let mut threads = self.begin().await;
        self.registry.remove(name)?.batcher.cancel_background();
        self.loader.metrics().remove_model(name);
        tracing::info!(model = name, "removed");
        let old = threads.workers.remove(name);
        threads.draining = old.map(|old| join_in_background(old, name));
        Ok(())
    }

    /// Calls off what runs in the background.
    pub fn cancel_background(&self) {
        for (_, model) in self.registry.all() {
            model.batcher.cancel_background();
        }
    }

    /// Closes all queues and rejects what waits; only running batches are finished.
    pub fn refuse_waiting(&self) {
        for (_, model) in self.registry.all() {
            model.batcher.refuse_waiting();
        }
    }

    /// Closes all queues, and ends downloads and imports that are under way.
    pub fn close(&self) {
        self.loader.cancel.cancel();
        for (_, model) in self.registry.all() {
            model.batcher.close();
        }
    }

    /// Lets nothing more in and waits for the last batch of every model, and for a change that is
    /// under way.
    pub async fn finish(&self) {
        let mut threads = self.begin().await;
        self.close();
        for of_model in std::mem::take(&mut threads.workers).into_values() {
            join(of_model).await;
        }
    }

    /// Waits for the right to change what is served, and until the model before has gone.
    async fn begin(&self) -> MutexGuard<'_, Threads> {
        let mut threads = self.threads.lock().await;
        if let Some(draining) = &mut threads.draining {
            if let Err(error) = draining.await {
                tracing::error!(%error, "waiting for the model before failed");
            }
            threads.draining = None;
        }
        threads
    }

    async fn reload_one(&self, name: &str, when: ReloadMode) -> Result<ModelChange> {
        let threads = self.begin().await;
        let served = self.registry.resolve(Some(name))?;
        let directory = served.model.directory.clone();
        drop(served);
        self.change(threads, name, directory, when).await
    }

    async fn change(
        &self,
        mut threads: MutexGuard<'_, Threads>,
        name: &str,
        directory: PathBuf,
        when: ReloadMode,
    ) -> Result<ModelChange> {
        let started = Instant::now();
        let served = self.registry.get(name);
        let known = served
            .as_ref()
            .filter(|_| when == ReloadMode::IfChanged)
            .map(|model| model.model.digest.clone());
        let (loader, owned_name) = (Arc::clone(&self.loader), name.to_owned());
        let loading =
            task::spawn_blocking(move || load(&loader, &owned_name, &directory, known.as_deref()));
        let loaded = refused_or(loading.await)?;
        let (model, outcome) = match (loaded, served) {
            (None, Some(served)) => (served, ChangeOutcome::Unchanged),
            (None, None) => return Err(Error::Internal),
            (Some((model, worker)), served) => {
                let model = Arc::new(model);
                self.registry.insert(name, Arc::clone(&model));
                let outcome = match served {
                    Some(before) => {
                        before.batcher.cancel_background();
                        ChangeOutcome::Replaced
                    }
                    None => ChangeOutcome::Added,
                };
                let before = threads.workers.insert(name.into(), worker);
                threads.draining = before.map(|before| join_in_background(before, name));
                (model, outcome)
            }
        };
        Ok(ModelChange {
            model,
            outcome,
            took: started.elapsed(),
        })
    }
}

/// The model of a directory, or nothing if its digest is the known one.
fn load(
    loader: &Loader,
    name: &str,
    directory: &Path,
    known: Option<&str>,
) -> std::result::Result<Option<(Classifier, batch::Workers)>, LoadError> {
    let mut model = ModelInfo::open(directory)?;
    if known == Some(&model.digest) {
        return Ok(None);
    }
    name.clone_into(&mut model.name);
    loader.load_verified(model).map(Some)
}

/// What a thread that loads came to, an error being one of the model.
fn refused_or<T>(
    loaded: std::result::Result<std::result::Result<T, LoadError>, JoinError>,
) -> Result<T> {
    let loaded = loaded.map_err(|error| {
        tracing::error!(%error, "loading a model panicked");
        Error::Internal
    })?;
    loaded.map_err(|error| Error::ModelRefused {
        error: Detail::new(error),
    })
}

/// Runs a change to its end even if its client has left.
async fn detached(
    change: impl Future<Output = Result<ModelChange>> + Send + 'static,
) -> Result<ModelChange> {
    tokio::spawn(change).await.unwrap_or_else(|error| {
        tracing::error!(%error, "changing a model panicked");
        Err(Error::Internal)
    })
}

/// Waits in the background for workers that get no work any more.
fn join_in_background(old: batch::Workers, name: &str) -> JoinHandle<()> {
    let name = name.to_owned();
    tokio::spawn(async move {
        join(old).await;
        tracing::info!(model = name, "the model before has gone");
    })
}

async fn join(workers: batch::Workers) {
    if let Err(error) = task::spawn_blocking(move || workers.join()).await {
        tracing::error!(%error, "waiting for batch workers panicked");
    }
}
