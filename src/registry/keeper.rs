//! Changes what is served: loads models and ends their workers.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Mutex;

use super::{LoadError, Loader, Registry};
use crate::{batch::WorkerHandle, config::ModelSource};

/// The one that may change a [`Registry`].
#[derive(Debug)]
pub struct Keeper {
    loader: Loader,
    registry: Registry,
    /// A worker for each model. Whoever changes what is served holds the lock, so that there is
    /// one load at a time.
    workers: Mutex<BTreeMap<Arc<str>, WorkerHandle>>,
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
    ) -> Result<Self, (String, LoadError)> {
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
            loader,
            registry,
            workers: Mutex::new(workers),
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

    /// Waits for the last batch of every model. Blocks the calling thread.
    pub fn join(self) {
        self.close();
        for worker in self.workers.into_inner().into_values() {
            worker.join();
        }
    }
}
