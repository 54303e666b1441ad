//! The models being served, by name: a table that is swapped as a whole.
//!
//! A request takes its model once and holds on to it until its answer is made, so that replacing or
//! removing a model never touches what is under way. A model that no request holds any more closes
//! its queue, and its workers end.
//!
//! [`Registry`] knows names and nothing of loading; [`Loader`] makes a model of a directory, and
//! [`ModelManager`] changes what is served.
//!
//! The table is behind a lock rather than in `arc-swap`: a change copies and replaces it under the
//! lock, and readers hold that for the count of one reference.

mod loader;
mod manager;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

pub use self::{
    loader::{LoadError, Loader},
    manager::{ChangeOutcome, ModelChange, ModelDir, ModelManager},
};
use crate::{Error, Result, classify::Classifier, error::Detail};

/// Models by name. A handle; clones share the content. There is always a default model.
#[derive(Debug)]
pub struct Registry<T = Classifier>(Arc<RwLock<Arc<ModelTable<T>>>>);

/// What is served at one moment.
#[derive(Debug)]
struct ModelTable<T> {
    by_name: BTreeMap<Arc<str>, Arc<T>>,
    default_name: Arc<str>,
    default: Arc<T>,
}

impl<T> Registry<T> {
    /// One model, which is the default from now on.
    pub fn new(name: &str, model: Arc<T>) -> Self {
        let name: Arc<str> = name.into();
        Self(Arc::new(RwLock::new(Arc::new(ModelTable {
            by_name: BTreeMap::from([(Arc::clone(&name), Arc::clone(&model))]),
            default_name: name,
            default: model,
        }))))
    }

    /// The model of this name.
    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        self.now().by_name.get(name).cloned()
    }

    /// The model of this name, or the default where none is named.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`].
    pub fn resolve(&self, name: Option<&str>) -> Result<Arc<T>> {
        match name {
            None => Ok(self.default_model()),
            Some(name) => self.get(name).ok_or_else(|| Error::NoSuchModel {
                name: Detail::quoting(name),
            }),
        }
    }

    /// The model that answers where none is named.
    pub fn default_model(&self) -> Arc<T> {
        Arc::clone(&self.now().default)
    }

    /// Its name, which never changes.
    pub fn default_name(&self) -> Arc<str> {
        Arc::clone(&self.now().default_name)
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.now().by_name.keys().cloned().collect()
    }

    /// All models, sorted by name.
    pub fn all(&self) -> Vec<(Arc<str>, Arc<T>)> {
        let now = self.now();
        let pairs = now.by_name.iter();
        pairs
            .map(|(name, model)| (Arc::clone(name), Arc::clone(model)))
            .collect()
    }

    /// Serves a model under this name from now on, instead of the one before, which is returned.
    pub fn insert(&self, name: &str, model: Arc<T>) -> Option<Arc<T>> {
        self.change(|models| {
            if *models.default_name == *name {
                models.default = Arc::clone(&model);
            }
            models.by_name.insert(name.into(), model)
        })
    }

    /// Serves no model under this name any more.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], and [`Error::DefaultModel`] for the default model.
    pub fn remove(&self, name: &str) -> Result<Arc<T>> {
        self.change(|models| {
            if *models.default_name == *name {
                return Err(Error::DefaultModel {
                    name: Detail::quoting(name),
                });
            }
            models
                .by_name
                .remove(name)
                .ok_or_else(|| Error::NoSuchModel {
                    name: Detail::quoting(name),
                })
        })
    }

    fn now(&self) -> Arc<ModelTable<T>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readers see the table before the change or after it, never in between.
    fn change<R>(&self, change: impl FnOnce(&mut ModelTable<T>) -> R) -> R {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = ModelTable {
            by_name: current.by_name.clone(),
            default_name: Arc::clone(&current.default_name),
            default: Arc::clone(&current.default),
        };
        let outcome = change(&mut next);
        *current = Arc::new(next);
        outcome
    }
}

impl<T> Clone for Registry<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry<u32> {
        let registry = Registry::new("first", Arc::new(1));
        assert_eq!(registry.insert("second", Arc::new(2)), None);
        registry
    }

    #[test]
    fn without_a_name_the_default_answers() {
        let registry = registry();
        assert_eq!(*registry.resolve(None).unwrap(), 1);
        assert_eq!(*registry.resolve(Some("second")).unwrap(), 2);
        assert_eq!(&*registry.default_name(), "first");
        assert_eq!(registry.names().len(), 2);
    }

    #[test]
    fn an_unknown_name_is_told_back_harmlessly() {
        let error = registry().resolve(Some("a\nb")).unwrap_err();
        assert_eq!(error.code(), "no_such_model");
        assert!(error.to_string().contains("a\\nb"), "{error}");
    }

    #[test]
    fn a_held_model_survives_its_replacement() {
        let registry = registry();
        let held = registry.default_model();
        assert_eq!(registry.insert("first", Arc::new(3)), Some(Arc::new(1)));
        assert_eq!((*held, *registry.default_model()), (1, 3));
        assert_eq!(*registry.get("first").unwrap(), 3);
    }

    #[test]
    fn a_replaced_model_is_let_go() {
        let registry = registry();
        let held = registry.default_model();
        drop(registry.insert("first", Arc::new(3)));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn any_but_the_default_can_be_removed() {
        let registry = registry();
        assert_eq!(
            registry.remove("first").unwrap_err().code(),
            "default_model"
        );
        assert_eq!(*registry.remove("second").unwrap(), 2);
        assert_eq!(
            registry.remove("second").unwrap_err().code(),
            "no_such_model"
        );
        assert!(registry.get("second").is_none());
    }
}
