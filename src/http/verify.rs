//! `POST`, `GET` and `DELETE /attention/{id}/verify`: the perturbation test of one kept map.
//!
//! The job's address is the map's own, so that whoever may see the map may test it, and nobody
//! else. Without `--allow-verify` every request gets 403.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Extension, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    AppState, Problem, RequestId,
    attention::MapId,
    openapi::{PICTURES, Refused},
};
use crate::{
    Error, Result,
    store::{Found, Owner},
    verify::{Jobs, Key, Status, Subject},
};

/// Test a map by perturbation, in the background.
///
/// A server that allows it (`--allow-verify`) says so in the answer of `POST /classify`. If there
/// is a test of this map already, this says how it stands.
#[utoipa::path(
    post, path = "/attention/{id}/verify", operation_id = "testMap", tag = PICTURES,
    params(MapId),
    responses(
        (status = 200, description = "It was done before.", body = Status, example = json!(done())),
        (
            status = 202, description = "It waits or runs; Location says where to ask.",
            body = Status,
            headers(("Location" = String, description = "Where to ask how it stands.")),
            links(("itsStatus" = (
                operation_id = "testOfMap", parameters(("id" = "$request.path.id")),
                description = "How the test stands.",
            ))),
            example = json!({"status": "waiting", "progress": {"done": 0, "of": 0}}),
        ),
        Refused<403>, Refused<404>, Refused<409>, Refused<429>, Refused<500>, Refused<503>,
    ),
)]
pub(super) async fn start(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    MapId { id }: MapId,
) -> Response {
    let answer = async {
        let (jobs, found) = find(&state, &id, owner).await?;
        let status = jobs.start(Key::new(owner, &id), subject(&state, found)?)?;
        if status.is_done() {
            return Ok(told(StatusCode::OK, &status));
        }
        let mut response = told(StatusCode::ACCEPTED, &status);
        // An id that was found is made of characters that a header takes.
        if let Ok(place) = HeaderValue::from_str(&path(&id)) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    };
    answered(answer.await, &request)
}

/// How the perturbation test of a map stands, and what it found.
#[utoipa::path(
    get, path = "/attention/{id}/verify", operation_id = "testOfMap", tag = PICTURES,
    params(MapId),
    responses(
        (status = 200, description = "Its status.", body = Status, examples(
            ("running" = (value = json!({"status": "running", "progress": {"done": 12, "of": 56}}))),
            ("done" = (value = json!(done()))),
        )),
        Refused<403>, Refused<404>, Refused<500>, Refused<503>,
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    MapId { id }: MapId,
) -> Response {
    let answer = async {
        let (jobs, _) = find(&state, &id, owner).await?;
        let status = jobs.status(&Key::new(owner, &id)).ok_or(Error::NoSuchJob)?;
        Ok(told(StatusCode::OK, &status))
    };
    answered(answer.await, &request)
}

/// Call a test off, or forget what it found.
#[utoipa::path(
    delete, path = "/attention/{id}/verify", operation_id = "forgetTest", tag = PICTURES,
    params(MapId),
    responses(
        (status = 204, description = "It is called off or forgotten."),
        Refused<403>, Refused<404>, Refused<500>, Refused<503>,
    ),
)]
pub(super) async fn cancel(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    MapId { id }: MapId,
) -> Response {
    let answer = async {
        let (jobs, _) = find(&state, &id, owner).await?;
        match jobs.cancel(&Key::new(owner, &id)) {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(Error::NoSuchJob),
        }
    };
    answered(answer.await, &request)
}

/// Where a map's test is.
pub(super) fn path(id: &str) -> String {
    format!("/attention/{id}/verify")
}

async fn find<'a>(state: &'a AppState, id: &str, owner: Owner) -> Result<(&'a Jobs, Found)> {
    let jobs = state.verify.as_ref().ok_or(Error::VerifyNotAllowed)?;
    Ok((jobs, state.store.find(id, owner).await?))
}

/// The picture with the model that made the map, if both are still there.
fn subject(state: &AppState, found: Found) -> Result<Subject> {
    let Found { map, picture, .. } = found;
    let picture = picture.ok_or(Error::NotVerifiable(
        "the picture of this map is not kept any more; classify it again and test that map",
    ))?;
    let classifier = state
        .models
        .get(&map.model.name)
        .filter(|classifier| *classifier.outline == *map.model)
        .ok_or(Error::NotVerifiable(
            "the model that made this map is not served here any more; classify the picture again \
             and test that map",
        ))?;
    Ok(Subject {
        classifier: Arc::clone(&classifier),
        map,
        picture,
    })
}

/// A finished test as it may look.
fn done() -> serde_json::Value {
    let curve = |scores: [f64; 3], area: f64| json!({"scores": scores, "area": area});
    json!({
        "status": "done", "progress": {"done": 8, "of": 8},
        "result": {
            "about": "patches were replaced in the order of each map, strongest first (deletion), …",
            "class_id": 11, "label": "elephant", "fill": "mean of the picture", "steps": 2,
            "maps": [{
                "map": "rollout",
                "deletion": curve([0.9, 0.3, 0.1], 0.4), "insertion": curve([0.1, 0.7, 0.9], 0.6),
                "gain": {"deletion": 0.15, "insertion": 0.1},
            }],
            "random": {
                "deletion": curve([0.9, 0.6, 0.1], 0.55), "insertion": curve([0.1, 0.5, 0.9], 0.5),
            },
        },
    })
}

/// A status changes until it is done, so nobody keeps it.
fn told(code: StatusCode, status: &Status) -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (code, headers, Json(status)).into_response()
}

fn answered(answer: Result<Response>, request: &RequestId) -> Response {
    answer.unwrap_or_else(|why| Problem::new(&why, request).into_response())
}
