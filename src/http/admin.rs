//! The admin listener: which models are served, and changing that. Everything that tells or changes
//! something about models wants an API key; health and metrics are open, as on the main listener.
//!
//! Each change leaves a line in the log, with the key's fingerprint, whatever became of it.

mod bodies;

use axum::{
    Json, Router,
    extract::{Extension, FromRef, Request, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::bodies::{
    AddRequest, ChangeStatus, Changed, LoadRequest, ModelList, ModelPath, ModelSummary, example,
};
use super::{
    AppState, Problem, RequestId, auth_layer, client_address,
    content_encoding::ContentEncoding,
    health, method_not_allowed, observed,
    openapi::{self, ADMINISTRATION, Refused},
    page, upload,
};
use crate::{
    Error, Result, bom,
    config::{MAX_NAME_LENGTH, is_model_name},
    registry::{ChangeOutcome, ModelChange, ModelManager},
    service::Caller,
    store::Owner,
};
use patchlight_escape::Excerpt;

/// What the routes of the admin listener share.
#[derive(Clone, Debug)]
pub(super) struct AdminState {
    app: AppState,
    manager: ModelManager,
}

impl FromRef<AdminState> for AppState {
    fn from_ref(state: &AdminState) -> Self {
        state.app.clone()
    }
}

/// All routes of the admin listener.
pub fn admin_router(app: AppState, manager: ModelManager) -> Router {
    let require_key = middleware::from_fn_with_state(app.clone(), auth_layer::require_key);
    let routes = routes(|keyed| keyed.route_layer(require_key.clone()));
    let routes = openapi::described(routes)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(AdminState {
            app: app.clone(),
            manager,
        });
    observed(routes, app)
}

/// What is served here; `require_auth` puts what tells or changes something about models behind a
/// key.
pub(super) fn routes(
    require_auth: impl FnOnce(OpenApiRouter<AdminState>) -> OpenApiRouter<AdminState>,
) -> OpenApiRouter<AdminState> {
    let models = OpenApiRouter::default()
        .routes(routes!(list, add))
        .routes(routes!(show, put, remove))
        .routes(routes!(reload));
    OpenApiRouter::default()
        .merge(require_auth(openapi::always_keyed(models)))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .merge(page::docs_routes())
}

/// All models that are served.
#[utoipa::path(
    get, path = "/admin/models", operation_id = "models", tag = ADMINISTRATION,
    responses((
        status = 200, description = "The models.", body = ModelList,
        example = json!({"default": "demo", "models": [example()]}),
    )),
)]
async fn list(State(state): State<AdminState>) -> Json<ModelList> {
    let registry = state.manager.registry();
    Json(ModelList {
        default: registry.default_name().to_string(),
        models: registry
            .all()
            .iter()
            .map(|(_, model)| ModelSummary::new(model))
            .collect(),
    })
}

/// A model that is served.
#[utoipa::path(
    get, path = "/admin/models/{name}", operation_id = "model", tag = ADMINISTRATION,
    params(ModelPath),
    responses(
        (status = 200, description = "The model.", body = ModelSummary, example = json!(example())),
        Refused<400>, Refused<404>,
    ),
)]
async fn show(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    ModelPath { name }: ModelPath,
) -> Response {
    match state.manager.registry().resolve(Some(&name)) {
        Ok(served) => Json(ModelSummary::new(&served)).into_response(),
        Err(error) => Problem::new(&error, &id).into_response(),
    }
}

/// Add or replace a model without dropping a request.
///
/// The directory is loaded, verified by its digests and warmed up beside what is served, then
/// switched to at once. If anything is wrong with it, nothing changes.
#[utoipa::path(
    put, path = "/admin/models/{name}", operation_id = "putModel", tag = ADMINISTRATION,
    params(ModelPath),
    request_body(content = LoadRequest, example = json!({"directory": "/models/vit-b-16"})),
    responses(
        (status = 200, description = "It is replaced, or was this one already.", body = Changed,
         example = json!({"outcome": "replaced", "took_ms": 1830, "model": example()})),
        (status = 201, description = "It is added.", body = Changed,
         example = json!({"outcome": "added", "took_ms": 1830, "model": example()})),
        Refused<400>, Refused<408>, Refused<413>, Refused<415>, Refused<422>, Refused<500>, Refused<503>,
    ),
)]
async fn put(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    ModelPath { name }: ModelPath,
    request: Request,
) -> Response {
    let outcome = async {
        check_name(&name)?;
        let asked: LoadRequest = json(&state, &caller, request, LoadRequest::EXPECTED).await?;
        state.manager.put(&name, asked.location()?).await
    };
    answer("put", &name, caller.owner(), outcome.await, &id)
}

/// Add a model by its address.
///
/// It is fetched and imported, unless that was done before, verified and warmed up, and then
/// answers; the request takes as long as all of that. A client that leaves ends nothing.
#[utoipa::path(
    post, path = "/admin/models", operation_id = "addModel", tag = ADMINISTRATION,
    request_body(content = AddRequest, example = json!({"source": "hf://google/vit-base-patch16-224"})),
    responses(
        (status = 200, description = "A model of this name is replaced.", body = Changed,
         example = json!({"outcome": "replaced", "took_ms": 1830, "model": example()})),
        (status = 201, description = "It is added.", body = Changed,
         example = json!({"outcome": "added", "took_ms": 1830, "model": example()})),
        Refused<400>, Refused<408>, Refused<413>, Refused<415>, Refused<422>, Refused<500>, Refused<503>,
    ),
)]
async fn add(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let asked: Result<AddRequest> = json(&state, &caller, request, AddRequest::EXPECTED).await;
    let model = asked
        .and_then(AddRequest::model)
        .and_then(|(name, source)| {
            check_name(&name)?;
            Ok((name, source))
        });
    match model {
        Ok((name, source)) => {
            let outcome = state.manager.put(&name, source).await;
            answer("add", &name, caller.owner(), outcome, &id)
        }
        Err(error) => answer("add", "", caller.owner(), Err(error), &id),
    }
}

/// The body of a request as JSON.
async fn json<T: DeserializeOwned>(
    state: &AdminState,
    caller: &Caller,
    request: Request,
    expected: &str,
) -> Result<T> {
    let (parts, body) = request.into_parts();
    let encoding = ContentEncoding::of_body(&parts.headers)?;
    let address = client_address::address(&parts.extensions);
    let content_length = upload::content_length(&parts.headers);
    let service = &state.app.service;
    let mut upload = service.admit_upload(caller, address, content_length)?;
    let is_compressed = upload::is_compressed(&parts.headers);
    let body = upload
        .receive(body.into_data_stream(), is_compressed)
        .await?;
    let body = encoding.decompress(body, service.limits.max_body)?;
    serde_json::from_slice(bom::strip(&body)).map_err(|error| {
        let error = Excerpt(error);
        Error::MalformedRequest(format_args!("JSON body: {error}; expected {expected}").into())
    })
}

/// Load a model's directory again.
///
/// As if it were put again: for files that have changed in their place.
#[utoipa::path(
    post, path = "/admin/models/{name}/reload", operation_id = "reloadModel", tag = ADMINISTRATION,
    params(ModelPath),
    responses(
        (status = 200, description = "It is reloaded, or had not changed.", body = Changed,
         example = json!({"outcome": "unchanged", "took_ms": 40, "model": example()})),
        Refused<400>, Refused<404>, Refused<422>, Refused<500>, Refused<503>,
    ),
)]
async fn reload(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    ModelPath { name }: ModelPath,
) -> Response {
    answer(
        "reload",
        &name,
        owner,
        state.manager.reload(&name).await,
        &id,
    )
}

/// Remove a model, once its requests are answered.
#[utoipa::path(
    delete, path = "/admin/models/{name}", operation_id = "removeModel", tag = ADMINISTRATION,
    params(ModelPath),
    responses(
        (status = 204, description = "It is removed."),
        Refused<400>, Refused<404>, Refused<409>, Refused<500>, Refused<503>,
    ),
)]
async fn remove(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    ModelPath { name }: ModelPath,
) -> Response {
    let outcome = state.manager.remove(&name).await;
    audit("remove", &name, owner, outcome.as_ref().err());
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => Problem::new(&error, &id).into_response(),
    }
}

fn answer(
    action: &str,
    name: &str,
    owner: Owner,
    outcome: Result<ModelChange>,
    id: &RequestId,
) -> Response {
    audit(action, name, owner, outcome.as_ref().err());
    let change = match outcome {
        Ok(change) => change,
        Err(error) => return Problem::new(&error, id).into_response(),
    };
    let (status, status_name) = match change.outcome {
        ChangeOutcome::Added => (StatusCode::CREATED, ChangeStatus::Added),
        ChangeOutcome::Replaced => (StatusCode::OK, ChangeStatus::Replaced),
        ChangeOutcome::Unchanged => (StatusCode::OK, ChangeStatus::Unchanged),
    };
    let changed = Changed {
        outcome: status_name,
        took_ms: change.took.as_millis() as u64,
        model: ModelSummary::new(&change.model),
    };
    (status, Json(changed)).into_response()
}

/// One line of the audit log.
fn audit(action: &str, model: &str, owner: Owner, refused: Option<&Error>) {
    let key = owner.fingerprint();
    let model = Excerpt(model);
    match refused {
        None => tracing::info!(target: "patchlight::audit", action, %model, key, "done"),
        Some(error) => {
            tracing::warn!(target: "patchlight::audit", action, %model, key, %error, "refused");
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if is_model_name(name) {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "name",
        detail: format_args!(
            "a model's name has 1 to {MAX_NAME_LENGTH} letters, digits, `-`, `_` and `.`, and does not \
             begin with `.`"
        )
        .into(),
    })
}

/// The routes, for those who ask for something else. A test compares them with the document.
pub(super) const ROUTES: &str = "GET and POST /admin/models, GET, PUT and DELETE /admin/models/{name}, \
                                 POST /admin/models/{name}/reload, GET /healthz, GET /readyz, \
                                 GET /metrics and GET /openapi.json (GET /docs shows it)";

async fn not_found(request: Request) -> Problem {
    let detail = format_args!("there is nothing here; the routes are {ROUTES}").into();
    Problem::new(&Error::NoSuchRoute(detail), &super::request_id(&request))
}
