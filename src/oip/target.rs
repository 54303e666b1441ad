//! Which served model, under which of its names, a request means.

use std::sync::Arc;

use patchlight_escape::Excerpt;

use super::{ModelVariant, VERSION};
use crate::{Error, Result, classify::Classifier, error::Detail, registry::Registry};

/// A served model and one of its variants.
#[derive(Clone, Debug)]
pub struct Target {
    /// The model's own name.
    pub name: Arc<str>,
    /// Under which of its names it is asked.
    pub variant: ModelVariant,
    /// The model, even if it is replaced meanwhile.
    pub classifier: Arc<Classifier>,
}

impl Target {
    /// Every name, model by model.
    pub fn all(models: &Registry) -> Vec<Self> {
        let models = models.all().into_iter();
        let variants = models.flat_map(|(name, classifier)| {
            ModelVariant::ALL.map(|variant| Self {
                name: Arc::clone(&name),
                variant,
                classifier: Arc::clone(&classifier),
            })
        });
        variants.collect()
    }

    /// The name as clients write it.
    pub fn display_name(&self) -> String {
        self.variant.name(&self.name)
    }

    /// What a client calls so; any version, without one.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`].
    pub fn find(models: &Registry, called: &str, version: Option<&str>) -> Result<Self> {
        let models = models.all();
        let known = |model: &str| models.iter().any(|(name, _)| **name == *model);
        if version.is_none_or(|version| version == VERSION)
            && let Some((model, variant)) = ModelVariant::resolve(called, known)
            && let Some((name, classifier)) = models.iter().find(|(name, _)| **name == *model)
        {
            return Ok(Self {
                name: Arc::clone(name),
                variant,
                classifier: Arc::clone(classifier),
            });
        }
        let name = Excerpt(called);
        Err(Error::NoSuchModel {
            name: match version {
                None => Detail::new(name),
                Some(version) => Detail::new(format_args!("{name}/versions/{}", Excerpt(version))),
            },
        })
    }
}
