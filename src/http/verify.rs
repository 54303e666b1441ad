//! `POST`, `GET` and `DELETE /attention/{id}/verify`: the perturbation test of one kept map.
//!
//! The job's address is the map's own, so that whoever may see the map may test it, and nobody
//! else. Without `--allow-verify` every request gets 403.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Extension, Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{AppState, Problem, RequestId};
use crate::{
    Error, Result,
    store::{Found, Owner},
    verify::{Jobs, Key, Status, Subject},
};

/// Starts the test, or says how the one that there is stands.
pub(super) async fn start(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Path(id): Path<String>,
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

/// How the test stands, and what it found.
pub(super) async fn show(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Path(id): Path<String>,
) -> Response {
    let answer = async {
        let (jobs, _) = find(&state, &id, owner).await?;
        let status = jobs.status(&Key::new(owner, &id)).ok_or(Error::NoSuchJob)?;
        Ok(told(StatusCode::OK, &status))
    };
    answered(answer.await, &request)
}

/// Calls the test off, or forgets what it found.
pub(super) async fn cancel(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Path(id): Path<String>,
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

/// A status changes until it is done, so nobody keeps it.
fn told(code: StatusCode, status: &Status) -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (code, headers, Json(status)).into_response()
}

fn answered(answer: Result<Response>, request: &RequestId) -> Response {
    answer.unwrap_or_else(|why| Problem::new(&why, request).into_response())
}
