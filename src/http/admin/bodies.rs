//! Request and response bodies of the admin routes.

use std::path::PathBuf;

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use patchlight_escape::Excerpt;
use patchlight_sources::Source;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    Error, Result,
    classify::Classifier,
    http::{Problem, RequestId},
};

/// All models that are served.
#[derive(Serialize, ToSchema)]
#[schema(as = Models)]
pub(super) struct ModelList {
    /// The one that answers where none is named.
    pub(super) default: String,
    pub(super) models: Vec<ModelSummary>,
}

/// A model that is served.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub(super) struct ModelSummary {
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
    /// Images in its queue.
    waiting: usize,
    /// Images in the batch that is being run.
    running: usize,
}

impl ModelSummary {
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
            device: served.devices.to_string(),
            waiting: load.waiting,
            running: load.running,
        }
    }
}

/// What became of a change.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    #[schema(inline)]
    pub(super) outcome: ChangeStatus,
    /// Loading, verifying and warming up.
    pub(super) took_ms: u64,
    pub(super) model: ModelSummary,
}

/// How a change ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChangeStatus {
    Added,
    Replaced,
    Unchanged,
}

/// The body of a request to load a model: one of the two.
#[derive(Deserialize, ToSchema)]
#[schema(as = ModelLocation)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadRequest {
    /// A model directory on the server.
    #[schema(value_type = Option<String>)]
    directory: Option<PathBuf>,
    /// An address, such as `hf://ORG/NAME`, or a model directory on the server. What an address
    /// stands for is fetched and imported, unless that was done before.
    source: Option<String>,
}

impl LoadRequest {
    pub(super) const EXPECTED: &'static str =
        r#"{"directory": "/models/NAME"} or {"source": "hf://ORG/NAME"}"#;

    /// Where the model is.
    pub(super) fn location(self) -> Result<Source> {
        let expected = |what: &str| {
            Error::MalformedRequest(
                format_args!("JSON body: {what}; expected {}", Self::EXPECTED).into(),
            )
        };
        match (self.directory, self.source) {
            (Some(directory), None) => Ok(Source::Local(directory)),
            (None, Some(source)) => {
                Source::parse(&source).map_err(|error| expected(&Excerpt(error).to_string()))
            }
            _ => Err(expected("one of directory and source has to be there")),
        }
    }
}

/// The body of a request to add a model.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewModel)]
#[serde(deny_unknown_fields)]
pub(super) struct AddRequest {
    /// As in [`LoadRequest`].
    source: String,
    /// What it is called: 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with `.`. By
    /// default the last part of the source.
    name: Option<String>,
}

impl AddRequest {
    pub(super) const EXPECTED: &'static str =
        r#"{"source": "hf://ORG/NAME"}, and a "name" if not that"#;

    /// What it is called, and where it is.
    pub(super) fn model(self) -> Result<(String, Source)> {
        let source = Source::parse(&self.source).map_err(|error| {
            let error = Excerpt(error);
            Error::MalformedRequest(
                format_args!("JSON body: {error}; expected {}", Self::EXPECTED).into(),
            )
        })?;
        Ok((self.name.unwrap_or_else(|| source.model_name()), source))
    }
}

/// The model that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ModelPath {
    /// 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with `.`.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$",
        example = "vit-b-16"
    )]
    pub(super) name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, Problem> {
        match Path::<Self>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(name),
            Err(error) => {
                let error = Error::MalformedRequest(error.body_text().into());
                Err(Problem::new(&error, &RequestId::given(parts)))
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
