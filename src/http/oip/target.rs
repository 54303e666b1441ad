//! Which model, under which of its names, a path below `/v2/models` means.

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
    http::{AppState, Problem, RequestId, openapi},
    oip::{Target, VERSION},
};

/// How a path names a model.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ModelPath {
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
        let path = Path::<ModelPath>::from_request_parts(parts, state).await;
        let found = match path {
            Ok(Path(path)) => {
                Self::find(&state.service.models, &path.model, path.version.as_deref())
            }
            Err(error) => Err(Error::MalformedRequest(error.body_text().into())),
        };
        found.map_err(|error| Problem::new(&error, &RequestId::given(parts)))
    }
}
