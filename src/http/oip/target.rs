//! Which model, under which of its names, a path below `/v2/models` means.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::Deserialize;
use utoipa::{
    IntoParams, PartialSchema,
    openapi::{
        Paths, Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::{
    Error,
    classify::Classifier,
    error::Detail,
    escape::Excerpt,
    http::{AppState, Problem, RequestId, openapi},
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

    fn find(state: &AppState, asked: &Named) -> Result<Self, Error> {
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
        let name = Excerpt(&asked.model);
        Err(Error::NoSuchModel {
            name: match version {
                None => Detail::new(name),
                Some(version) => Detail::new(format_args!("{name}/versions/{}", Excerpt(version))),
            },
        })
    }
}

/// How a path names a model.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Named {
    /// NAME, NAME_explain or NAME_image.
    #[param(min_length = 1, example = "demo_image")]
    model: String,
    /// Added by [`versioned`].
    #[param(ignore)]
    #[serde(default)]
    version: Option<String>,
}

/// A route below `/v2/models/{model}`, and the same below `/v2/models/{model}/versions/{version}`.
pub(super) fn versioned(route: UtoipaMethodRouter<AppState>) -> OpenApiRouter<AppState> {
    let (schemas, paths, methods) = route.clone();
    let mut versioned = Paths::new();
    for (path, mut item) in paths.paths {
        let path = path.replace("{model}", "{model}/versions/{version}");
        for operation in openapi::operations(&mut item) {
            operation
                .parameters
                .get_or_insert_default()
                .push(version().into());
            if let Some(id) = &mut operation.operation_id {
                id.push_str("Version");
            }
        }
        versioned.paths.insert(path, item);
    }
    OpenApiRouter::default()
        .routes(route)
        .routes((schemas, versioned, methods))
}

fn version() -> Parameter {
    ParameterBuilder::new()
        .name("version")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("There is one."))
        .schema(Some(String::schema()))
        .example(Some(VERSION.into()))
        .build()
}

impl FromRequestParts<AppState> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let asked = Path::<Named>::from_request_parts(parts, state).await;
        let found = match asked {
            Ok(Path(asked)) => Self::find(state, &asked),
            Err(why) => Err(Error::MalformedRequest(why.body_text().into())),
        };
        found.map_err(|why| Problem::new(&why, &RequestId::given(parts)))
    }
}
