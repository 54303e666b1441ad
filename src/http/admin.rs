//! The admin listener: which models are served, and changing that. Everything that tells or changes
//! something about models wants an API key; health and metrics are open, as on the main listener.
//!
//! Each change leaves a line in the log, with the key's fingerprint, whatever became of it.

use std::path::PathBuf;

use axum::{
    Json, Router,
    extract::{Extension, FromRef, Path, Request, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{AppState, Problem, RequestId, auth, health, method_not_allowed, observed, upload};
use crate::{
    Error, Result,
    classify::Classifier,
    registry::{Change, Keeper, Outcome},
    store::Owner,
};

/// The longest name that a model may be given here.
const LONGEST_NAME: usize = 64;

/// What the routes of the admin listener share.
#[derive(Clone, Debug)]
struct AdminState {
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
    let keyed = Router::new()
        .route("/admin/models", get(list))
        .route("/admin/models/{name}", get(show).put(put).delete(remove))
        .route("/admin/models/{name}/reload", post(reload))
        .route_layer(middleware::from_fn_with_state(
            app.clone(),
            auth::require_key,
        ));
    let routes = Router::new()
        .merge(keyed)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(AdminState {
            app: app.clone(),
            keeper,
        });
    observed(routes, app)
}

/// All models that are served.
#[derive(Serialize)]
struct List {
    /// The one that answers where none is named.
    default: String,
    models: Vec<Card>,
}

/// A model that is served.
#[derive(Serialize)]
struct Card {
    name: String,
    directory: PathBuf,
    architecture: String,
    precision: String,
    classes: usize,
    digest: String,
    device: String,
    waiting: usize,
    running: usize,
}

impl Card {
    fn new(served: &Classifier) -> Self {
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
#[derive(Serialize)]
struct Changed {
    outcome: &'static str,
    took_ms: u64,
    model: Card,
}

/// The body of `PUT /admin/models/{name}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    directory: PathBuf,
}

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

async fn show(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Path(name): Path<String>,
) -> Response {
    match state.keeper.registry().resolve(Some(&name)) {
        Ok(served) => Json(Card::new(&served)).into_response(),
        Err(why) => Problem::new(&why, &id).into_response(),
    }
}

async fn put(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let outcome = async {
        check_name(&name)?;
        let (parts, body) = request.into_parts();
        let body = upload::read(&parts.headers, body, state.app.limits, &state.app.metrics).await?;
        let wanted: Wanted = serde_json::from_slice(&body).map_err(|why| {
            Error::MalformedRequest(format!(
                "JSON body: {why}; expected {{\"directory\": \"/models/NAME\"}}"
            ))
        })?;
        state.keeper.put(&name, wanted.directory).await
    };
    answer("put", &name, owner, outcome.await, &id)
}

async fn reload(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Path(name): Path<String>,
) -> Response {
    answer(
        "reload",
        &name,
        owner,
        state.keeper.reload(&name).await,
        &id,
    )
}

async fn remove(
    State(state): State<AdminState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Path(name): Path<String>,
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
        Outcome::Added => (StatusCode::CREATED, "added"),
        Outcome::Replaced => (StatusCode::OK, "replaced"),
        Outcome::Unchanged => (StatusCode::OK, "unchanged"),
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
    let model = model.escape_debug();
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
        detail: format!(
            "a model's name has 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`, and does not \
             begin with `.`"
        ),
    })
}

async fn not_found(request: Request) -> Problem {
    let detail = "there is nothing here; the routes are GET /admin/models, GET, PUT and DELETE \
                  /admin/models/{name}, POST /admin/models/{name}/reload, GET /healthz, GET /readyz \
                  and GET /metrics";
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
