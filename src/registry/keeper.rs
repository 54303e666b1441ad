//! Changes what is served, without dropping a request.
//!
//! A new model is verified, loaded and run once beside the old one, and only then takes its name.
//! Requests that came before finish with the old one, whose worker ends with the last of them.
//! Changes happen one at a time, and the next begins when the old model has gone: at any moment
//! memory holds what is served and at most one model more.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task,
};

use super::{LoadError, Loader, Registry};
use crate::{
    Error, Result, batch, classify::Classifier, config::ModelSource, error::Detail,
    model::ModelInfo,
};

/// The one that may change a [`Registry`]. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct Keeper {
    loader: Arc<Loader>,
    registry: Registry,
    /// Held by whoever changes what is served, until the change is complete.
    workers: Arc<Mutex<Workers>>,
}

/// The batch workers of each model.
type Workers = BTreeMap<Arc<str>, batch::Workers>;

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
            workers: Arc::new(Mutex::new(workers)),
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
            let workers = Arc::clone(&keeper.workers).lock_owned().await;
            keeper
                .change(workers, &name, directory, Reload::Always)
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
        let mut workers = Arc::clone(&self.workers).lock_owned().await;
        drop(self.registry.remove(name)?);
        self.loader.metrics().forget_model(name);
        tracing::info!(model = name, "removed");
        retire(workers.remove(name), name, workers);
        Ok(())
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

    /// Lets nothing more in and waits for the last batch of every model.
    pub async fn finish(&self) {
        let mut workers = Arc::clone(&self.workers).lock_owned().await;
        self.close();
        for of_model in std::mem::take(&mut *workers).into_values() {
            join(of_model).await;
        }
    }

    async fn reload_one(&self, name: &str, when: Reload) -> Result<Change> {
        let workers = Arc::clone(&self.workers).lock_owned().await;
        let served = self.registry.resolve(Some(name))?;
        let directory = served.model.directory.clone();
        drop(served);
        self.change(workers, name, directory, when).await
    }

    async fn change(
        &self,
        mut workers: OwnedMutexGuard<Workers>,
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
            why: Detail::new(why),
        })?;
        let (model, outcome) = match (loaded, served) {
            (None, Some(served)) => (served, Outcome::Unchanged),
            (None, None) => return Err(Error::Internal),
            (Some((model, worker)), served) => {
                let model = Arc::new(model);
                self.registry.insert(name, Arc::clone(&model));
                let outcome = match served {
                    Some(_) => Outcome::Replaced,
                    None => Outcome::Added,
                };
                let before = workers.insert(name.into(), worker);
                retire(before, name, workers);
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

/// Waits in the background for workers that nobody gives work to any more, and only then lets the
/// next change begin.
fn retire(retired: Option<batch::Workers>, name: &str, changing: OwnedMutexGuard<Workers>) {
    let Some(retired) = retired else {
        return;
    };
    let name = name.to_owned();
    tokio::spawn(async move {
        join(retired).await;
        tracing::info!(model = name, "the model before has gone");
        drop(changing);
    });
}

async fn join(workers: batch::Workers) {
    if let Err(why) = task::spawn_blocking(move || workers.join()).await {
        tracing::error!(%why, "waiting for batch workers panicked");
    }
}
