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
use utoipa_axum::{router::OpenApiRouter, routes};

use self::bodies::{Card, Changed, List, Name, Wanted, Word, example};
use super::{
    AppState, Problem, RequestId, auth, health, method_not_allowed, observed,
    oip::coding::Coding,
    openapi::{self, ADMINISTRATION, Refused},
    page, upload,
};
use crate::{
    Error, Result, bom,
    escape::Excerpt,
    registry::{Change, Keeper, Outcome},
    store::Owner,
};

/// The longest name that a model may be given here.
const LONGEST_NAME: usize = 64;

/// What the routes of the admin listener share.
#[derive(Clone, Debug)]
pub(super) struct AdminState {
    app: AppState,
    keeper: Keeper,
}

impl FromRef<AdminState> for AppState {
    fn from_ref(state: &AdminState) -> Self {
        state.app.clone()
    }
}

/// All routes of the admin listener.
pub fn admin_router(app: AppState, keeper: Keeper) -> Router {
    let door = middleware::from_fn_with_state(app.clone(), auth::require_key);
    let routes = routes(|keyed| keyed.route_layer(door.clone()));
    let routes = openapi::described(routes)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(AdminState {
            app: app.clone(),
            keeper,
        });
    observed(routes, app)
}

/// What is served here; `lock` puts what tells or changes something about models behind a key.
pub(super) fn routes(
    lock: impl FnOnce(OpenApiRouter<AdminState>) -> OpenApiRouter<AdminState>,
) -> OpenApiRouter<AdminState> {
    let models = OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(show, put, remove))
        .routes(routes!(reload));
    OpenApiRouter::default()
        .merge(lock(openapi::always_keyed(models)))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .merge(page::docs_routes())
}

/// All models that are served.
#[utoipa::path(
    get, path = "/admin/models", operation_id = "models", tag = ADMINISTRATION,
    responses((
        status = 200, description = "The models.", body = List,
        example = json!({"default": "demo", "models": [example()]}),
    )),
)]
async fn list(State(state): State<AdminState>) -> Json<List> {
    let registry = state.keeper.registry();
    Json(List {
        default: registry.default_name().to_string(),
        models: registry
            .all()
            .iter()
            .map(|(_, model)| Card::new(model))
            .collect(),
    })
}

/// A model that is served.
#[utoipa::path(
    get, path = "/admin/models/{name}", operation_id = "model", tag = ADMINISTRATION,
    params(Name),
    responses(
        (status = 200, description = "The model.", body = Card, example = json!(example())),
        Refused<400>, Refused<404>,
    ),
)]
async fn show(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Name { name }: Name,
) -> Response {
    match state.keeper.registry().resolve(Some(&name)) {
        Ok(served) => Json(Card::new(&served)).into_response(),
        Err(why) => Problem::new(&why, &id).into_response(),
    }
}

/// Add or replace a model without dropping a request.
///
/// The directory is loaded, verified by its digests and warmed up beside what is served, then
/// switched to at once. If anything is wrong with it, nothing changes.
#[utoipa::path(
    put, path = "/admin/models/{name}", operation_id = "putModel", tag = ADMINISTRATION,
    params(Name),
    request_body(content = Wanted, example = json!({"directory": "/models/vit-b-16"})),
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
    Extension(owner): Extension<Owner>,
    Name { name }: Name,
    request: Request,
) -> Response {
    let outcome = async {
        check_name(&name)?;
        let (parts, body) = request.into_parts();
        let coding = Coding::of_body(&parts.headers)?;
        let limits = state.app.limits;
        let body = upload::read(&parts.headers, body, limits, &state.app.metrics).await?;
        let body = coding.unpack(body, limits.max_body)?;
        let wanted: Wanted = serde_json::from_slice(bom::strip(&body)).map_err(|why| {
            let why = Excerpt(why);
            Error::MalformedRequest(
                format_args!("JSON body: {why}; expected {{\"directory\": \"/models/NAME\"}}")
                    .into(),
            )
        })?;
        state.keeper.put(&name, wanted.directory).await
    };
    answer("put", &name, owner, outcome.await, &id)
}

/// Load a model's directory again.
///
/// As if it were put again: for files that have changed in their place.
#[utoipa::path(
    post, path = "/admin/models/{name}/reload", operation_id = "reloadModel", tag = ADMINISTRATION,
    params(Name),
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
    Name { name }: Name,
) -> Response {
    answer(
        "reload",
        &name,
        owner,
        state.keeper.reload(&name).await,
        &id,
    )
}

/// Remove a model, once its requests are answered.
#[utoipa::path(
    delete, path = "/admin/models/{name}", operation_id = "removeModel", tag = ADMINISTRATION,
    params(Name),
    responses(
        (status = 204, description = "It is removed."),
        Refused<400>, Refused<404>, Refused<409>, Refused<500>, Refused<503>,
    ),
)]
async fn remove(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Name { name }: Name,
) -> Response {
    let outcome = state.keeper.remove(&name).await;
    audit("remove", &name, owner, outcome.as_ref().err());
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => Problem::new(&why, &id).into_response(),
    }
}

fn answer(
    action: &str,
    name: &str,
    owner: Owner,
    outcome: Result<Change>,
    id: &RequestId,
) -> Response {
    audit(action, name, owner, outcome.as_ref().err());
    let change = match outcome {
        Ok(change) => change,
        Err(why) => return Problem::new(&why, id).into_response(),
    };
    let (status, word) = match change.outcome {
        Outcome::Added => (StatusCode::CREATED, Word::Added),
        Outcome::Replaced => (StatusCode::OK, Word::Replaced),
        Outcome::Unchanged => (StatusCode::OK, Word::Unchanged),
    };
    let changed = Changed {
        outcome: word,
        took_ms: change.took.as_millis() as u64,
        model: Card::new(&change.model),
    };
    (status, Json(changed)).into_response()
}

/// Who wanted what, and what became of it.
fn audit(action: &str, model: &str, owner: Owner, refused: Option<&Error>) {
    let key = owner.fingerprint();
    let model = Excerpt(model);
    match refused {
        None => tracing::info!(target: "patchlight::audit", action, %model, key, "done"),
        Some(why) => {
            tracing::warn!(target: "patchlight::audit", action, %model, key, %why, "refused");
        }
    }
}

/// A name becomes a part of URLs, a label of metrics and a word in logs.
fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
    {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "name",
        detail: format_args!(
            "a model's name has 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`, and does not \
             begin with `.`"
        )
        .into(),
    })
}

async fn not_found(request: Request) -> Problem {
    let detail = "there is nothing here; the routes are GET /admin/models, GET, PUT and DELETE \
                  /admin/models/{name}, POST /admin/models/{name}/reload, GET /healthz, GET /readyz, \
                  GET /metrics and GET /openapi.json (GET /docs shows it)";
    Problem::of_routing(StatusCode::NOT_FOUND, detail, &super::request_id(&request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for name in ["demo", "vit-l_16.v2", "0", &"a".repeat(64)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a b",
            "ä",
            "a\n",
            &"a".repeat(65),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
