//! Which model, under which of its names, a path below `/v2/models` means.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::Deserialize;

use crate::{
    Error,
    classify::Classifier,
    http::{AppState, Problem, RequestId},
    oip::{Face, VERSION},
};

/// A model that is served, and the face that is meant.
#[derive(Debug)]
pub(super) struct Target {
    /// The model's own name.
    pub(super) name: Arc<str>,
    pub(super) face: Face,
    pub(super) classifier: Arc<Classifier>,
}

impl Target {
    /// Every name, model by model.
    pub(super) fn all(state: &AppState) -> Vec<Self> {
        let models = state.models.all().into_iter();
        let faces = models.flat_map(|(name, classifier)| {
            Face::ALL.map(|face| Self {
                name: Arc::clone(&name),
                face,
                classifier: Arc::clone(&classifier),
            })
        });
        faces.collect()
    }

    /// The name as clients write it.
    pub(super) fn shown(&self) -> String {
        self.face.name(&self.name)
    }

    fn find(state: &AppState, asked: &Asked) -> Result<Self, Error> {
        let models = state.models.all();
        let known = |model: &str| models.iter().any(|(name, _)| **name == *model);
        let version = asked.version.as_deref();
        if version.is_none_or(|version| version == VERSION)
            && let Some((model, face)) = Face::resolve(&asked.model, known)
            && let Some((name, classifier)) = models.iter().find(|(name, _)| **name == *model)
        {
            return Ok(Self {
                name: Arc::clone(name),
                face,
                classifier: Arc::clone(classifier),
            });
        }
        let name = asked.model.escape_debug();
        Err(Error::NoSuchModel {
            name: match version {
                None => name.to_string(),
                Some(version) => format!("{name}/versions/{}", version.escape_debug()),
            },
        })
    }
}

#[derive(Deserialize)]
struct Asked {
    model: String,
    #[serde(default)]
    version: Option<String>,
}

impl FromRequestParts<AppState> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let asked = Path::<Asked>::from_request_parts(parts, state).await;
        let found = match asked {
            Ok(Path(asked)) => Self::find(state, &asked),
            Err(why) => Err(Error::MalformedRequest(why.body_text())),
        };
        found.map_err(|why| {
            let id = parts.extensions.get::<RequestId>().cloned();
            Problem::new(&why, &id.unwrap_or_else(|| RequestId::of(&parts.headers)))
        })
    }
}
