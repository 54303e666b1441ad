//! What is asked and answered about models.

use std::path::PathBuf;

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    Error,
    classify::Classifier,
    http::{Problem, RequestId},
};

/// All models that are served.
#[derive(Serialize, ToSchema)]
#[schema(as = Models)]
pub(super) struct List {
    /// The one that answers where none is named.
    pub(super) default: String,
    pub(super) models: Vec<Card>,
}

/// A model that is served.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub(super) struct Card {
    name: String,
    /// On the server.
    #[schema(value_type = String)]
    directory: PathBuf,
    architecture: String,
    /// Of its weights and sums.
    precision: String,
    /// How many labels it knows.
    classes: usize,
    /// Of its files: SHA-256 in hexadecimal.
    digest: String,
    /// What it runs on.
    device: String,
    /// Pictures in its queue.
    waiting: usize,
    /// Pictures in the batch that is being run.
    running: usize,
}

impl Card {
    pub(super) fn new(served: &Classifier) -> Self {
        let model = &served.model;
        let load = served.batcher.load();
        Self {
            name: model.name.clone(),
            directory: model.directory.clone(),
            architecture: model.manifest.architecture.name.clone(),
            precision: model.manifest.graph.precision.to_string(),
            classes: model.manifest.task.classes,
            digest: model.digest.clone(),
            device: served.device.to_string(),
            waiting: load.waiting,
            running: load.running,
        }
    }
}

/// What became of a change.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    #[schema(inline)]
    pub(super) outcome: Word,
    /// Loading, verifying and warming up.
    pub(super) took_ms: u64,
    pub(super) model: Card,
}

/// How a change ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Added,
    Replaced,
    Unchanged,
}

/// Which model is wanted.
#[derive(Deserialize, ToSchema)]
#[schema(as = ModelDirectory)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// On the server.
    #[schema(value_type = String)]
    pub(super) directory: PathBuf,
}

/// Which model a path means.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Name {
    /// 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with `.`.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$",
        example = "vit-b-16"
    )]
    pub(super) name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<Self>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(name),
            Err(why) => {
                let why = Error::MalformedRequest(why.body_text().into());
                Err(Problem::new(&why, &RequestId::given(parts)))
            }
        }
    }
}

/// A model as it may look.
pub(super) fn example() -> serde_json::Value {
    json!({
        "name": "vit-b-16", "directory": "/models/vit-b-16", "architecture": "vit",
        "precision": "fp32", "classes": 1000,
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "device": "cpu", "waiting": 0, "running": 1,
    })
}
