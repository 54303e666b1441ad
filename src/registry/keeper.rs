//! Changes what is served, without dropping a request.
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

use tokio::{
    sync::{Mutex, MutexGuard},
    task::{self, JoinHandle},
};

use super::{LoadError, Loader, Registry};
use crate::{Error, Result, batch, classify::Classifier, config::ModelSource, model::ModelInfo};

/// The one that may change a [`Registry`]. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct Keeper {
    loader: Arc<Loader>,
    registry: Registry,
    /// Held by whoever changes what is served.
    threads: Arc<Mutex<Threads>>,
}

/// The threads below what is served.
#[derive(Debug)]
struct Threads {
    /// The batch workers of each model.
    workers: BTreeMap<Arc<str>, batch::Workers>,
    /// Ends when the model has gone that was replaced or removed last.
    leaving: Option<JoinHandle<()>>,
}

/// What became of a wish to change something.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is served under the name now.
    pub model: Arc<Classifier>,
    /// What was done.
    pub outcome: Outcome,
    /// How long verifying, loading and the first run took.
    pub took: Duration,
}

/// What was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The name is new.
    Added,
    /// The name had another model.
    Replaced,
    /// The directory holds what is served already.
    Unchanged,
}

/// Whether a model is loaded that is served already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reload {
    Always,
    IfChanged,
}

impl Keeper {
    /// Loads all models, the first of which is the default. Blocks the calling thread.
    ///
    /// # Errors
    /// The first model that cannot be served, by name.
    pub fn start(
        loader: Loader,
        first: &ModelSource,
        others: &[ModelSource],
    ) -> std::result::Result<Self, (String, LoadError)> {
        let load = |source: &ModelSource| {
            loader
                .load(&source.name, &source.directory)
                .map_err(|why| (source.name.clone(), why))
        };
        let (model, worker) = load(first)?;
        let registry = Registry::new(&first.name, Arc::new(model));
        let mut workers = BTreeMap::from([(first.name.as_str().into(), worker)]);
        for source in others {
            let (model, worker) = load(source)?;
            registry.insert(&source.name, Arc::new(model));
            workers.insert(source.name.as_str().into(), worker);
        }
        Ok(Self {
            loader: Arc::new(loader),
            registry,
            threads: Arc::new(Mutex::new(Threads {
                workers,
                leaving: None,
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

    /// Serves the model of a directory under this name, instead of the one before if there is one.
    /// Goes on when the future is dropped.
    ///
    /// # Errors
    /// [`Error::ModelRefused`] with the reason; what was served before still is.
    pub async fn put(&self, name: &str, directory: PathBuf) -> Result<Change> {
        let (keeper, name) = (self.clone(), name.to_owned());
        detached(async move {
            let threads = keeper.begin().await;
            keeper
                .change(threads, &name, directory, Reload::Always)
                .await
        })
        .await
    }

    /// Loads a model anew from its directory. Goes on when the future is dropped.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], or [`Error::ModelRefused`] with the reason; what was served before
    /// still is.
    pub async fn reload(&self, name: &str) -> Result<Change> {
        let (keeper, name) = (self.clone(), name.to_owned());
        detached(async move { keeper.reload_one(&name, Reload::Always).await }).await
    }

    /// Loads every model whose directory holds another one by now, and says in the log what became
    /// of each.
    pub async fn reload_changed(&self) {
        for name in self.registry.names() {
            match self.reload_one(&name, Reload::IfChanged).await {
                Ok(change) if change.outcome == Outcome::Unchanged => {
                    tracing::info!(model = &*name, "unchanged");
                }
                Ok(_) => {}
                Err(why) => tracing::error!(model = &*name, %why, "not reloaded"),
            }
        }
    }

    /// Serves no model under this name any more. What is under way is finished.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], and [`Error::DefaultModel`] for the one that cannot be spared.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let mut threads = self.begin().await;
        self.registry.remove(name)?.batcher.retire();
        self.loader.metrics().forget_model(name);
        tracing::info!(model = name, "removed");
        let retired = threads.workers.remove(name);
        threads.leaving = retired.map(|retired| leave(retired, name));
        Ok(())
    }

    /// Calls off what runs in the background.
    pub fn retire(&self) {
        for (_, model) in self.registry.all() {
            model.batcher.retire();
        }
    }

    /// Lets nothing more in and refuses what waits; only what runs is finished.
    pub fn refuse_waiting(&self) {
        for (_, model) in self.registry.all() {
            model.batcher.refuse_waiting();
        }
    }

    /// Lets nothing more in.
    pub fn close(&self) {
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
        if let Some(leaving) = &mut threads.leaving {
            if let Err(why) = leaving.await {
                tracing::error!(%why, "waiting for the model before failed");
            }
            threads.leaving = None;
        }
        threads
    }

    async fn reload_one(&self, name: &str, when: Reload) -> Result<Change> {
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
        when: Reload,
    ) -> Result<Change> {
        let started = Instant::now();
        let served = self.registry.get(name);
        let known = served
            .as_ref()
            .filter(|_| when == Reload::IfChanged)
            .map(|model| model.model.digest.clone());
        let (loader, owned_name) = (Arc::clone(&self.loader), name.to_owned());
        let loading =
            task::spawn_blocking(move || load(&loader, &owned_name, &directory, known.as_deref()));
        let loaded = loading.await.map_err(|why| {
            tracing::error!(%why, "loading a model panicked");
            Error::Internal
        })?;
        let loaded = loaded.map_err(|why| Error::ModelRefused {
            why: why.to_string(),
        })?;
        let (model, outcome) = match (loaded, served) {
            (None, Some(served)) => (served, Outcome::Unchanged),
            (None, None) => return Err(Error::Internal),
            (Some((model, worker)), served) => {
                let model = Arc::new(model);
                self.registry.insert(name, Arc::clone(&model));
                let outcome = match served {
                    Some(before) => {
                        before.batcher.retire();
                        Outcome::Replaced
                    }
                    None => Outcome::Added,
                };
                let before = threads.workers.insert(name.into(), worker);
                threads.leaving = before.map(|before| leave(before, name));
                (model, outcome)
            }
        };
        Ok(Change {
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

/// Runs a change to its end even if whoever wished for it has left.
async fn detached(change: impl Future<Output = Result<Change>> + Send + 'static) -> Result<Change> {
    tokio::spawn(change).await.unwrap_or_else(|why| {
        tracing::error!(%why, "changing a model panicked");
        Err(Error::Internal)
    })
}

/// Waits in the background for workers that nobody gives work to any more.
fn leave(retired: batch::Workers, name: &str) -> JoinHandle<()> {
    let name = name.to_owned();
    tokio::spawn(async move {
        join(retired).await;
        tracing::info!(model = name, "the model before has gone");
    })
}

async fn join(workers: batch::Workers) {
    if let Err(why) = task::spawn_blocking(move || workers.join()).await {
        tracing::error!(%why, "waiting for batch workers panicked");
    }
}
