//! `GET` and `DELETE /attention/{id}`: a kept map as a picture, as JSON or as an array.
//!
//! Every id that is not known here gets the same 404, whatever the reason. Pictures are drawn when
//! asked for, on blocking threads of which only a few may draw at a time, so that maps never
//! starve classification.

mod describe;
mod easels;
mod form;
mod id;
mod picked;

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Extension, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use self::easels::Easels;
pub(super) use self::id::MapId;
use self::{
    describe::{Description, describe},
    form::{Form, Format, Parameters},
    picked::{Picked, Shares},
};
use super::{
    AppState, Problem, RequestId,
    openapi::{Binary, PICTURES, Refused},
    server_timing,
};
use crate::{
    Error, Result,
    explain::{self, PatchMap, Raster, Scale, View},
    metrics::{ShedReason, Stage},
    store::{Found, Owner},
    verify::Key,
};

/// Says which view was really drawn: an overlay without a kept picture is a heat map.
const VIEW: HeaderName = HeaderName::from_static("x-patchlight-view");

/// A kept map as a picture, as numbers or as an array.
///
/// `Accept` says which, and `format` has the last word. Ask for one map: `start_layer` (rollout),
/// `class` with or without `contrast` (evidence), or `layer` with or without `head` (attention).
#[utoipa::path(
    get, path = "/attention/{id}", operation_id = "attention", tag = PICTURES,
    params(MapId, Parameters),
    responses(
        (
            status = 200, description = "The map.",
            content(
                (inline(Binary) = "image/png"),
                (Description<'_> = "application/json", example = json!({
                    "id": "gakSA12YEx1y9T-cZUaogg", "model": "demo",
                    "model_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "method": "rollout",
                    "about": "rollout is class-agnostic: one map a picture, whatever the label",
                    "head_fusion": "mean", "start_layer": 0, "grid": [2, 2],
                    "values": [0.25, 0.125, 0.125, 0.25], "prefix_mass": 0.25,
                    "region": {"x": 0, "y": 0, "width": 1200, "height": 800},
                    "image": {"width": 1200, "height": 800},
                })),
                (inline(Binary) = "application/x-npy"),
            ),
            headers(
                ("ETag" = String, description = "Strong; for If-None-Match."),
                (
                    "X-Patchlight-View" = String,
                    description = "The view that was drawn: an overlay without a kept picture is a heat map."
                ),
            ),
        ),
        (status = 304, description = "What If-None-Match names is still right."),
        Refused<400>, Refused<404>, Refused<406>, Refused<409>, Refused<500>, Refused<503>,
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    MapId { id }: MapId,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let started = Instant::now();
        let found = state.store.find(&id, owner).await?;
        let form = Form::read(uri.query(), &headers, &found.map.model)?;
        let picked = Picked::of(&found.map, form.asked)?;
        let etag = etag(&id, &form, found.picture.is_some());
        if matches_etag(&headers, &etag) {
            return Ok((StatusCode::NOT_MODIFIED, cached(&found, &etag)).into_response());
        }
        let (content_type, view, body) = body(&state, &id, &form, &found, picked).await?;
        let mut response = (cached(&found, &etag), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(view) = view {
            headers.insert(VIEW, HeaderValue::from_static(view.name()));
        }
        server_timing::add(&mut response, &[("total", started.elapsed())]);
        Ok(response)
    };
    answer
        .await
        .unwrap_or_else(|why: Error| Problem::new(&why, &request).into_response())
}

/// Forget a map and its picture.
#[utoipa::path(
    delete, path = "/attention/{id}", operation_id = "forget", tag = PICTURES,
    params(MapId),
    responses(
        (status = 204, description = "It is forgotten."),
        Refused<404>, Refused<409>, Refused<500>, Refused<503>,
    ),
)]
pub(super) async fn forget(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    MapId { id }: MapId,
) -> Response {
    match state.store.forget(&id, owner).await {
        Ok(()) => {
            if let Some(jobs) = &state.verify {
                jobs.cancel(&Key::new(owner, &id));
            }
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why) => Problem::new(&why, &request).into_response(),
    }
}

async fn body(
    state: &AppState,
    id: &str,
    form: &Form,
    found: &Found,
    picked: Picked,
) -> Result<(&'static str, Option<View>, Bytes)> {
    match form.format {
        Format::Json => {
            let json = describe(id, &found.map, form.asked, &picked)?;
            Ok(("application/json", None, json.into()))
        }
        Format::Npy => {
            let array = match picked {
                Picked::Rollout(shares) | Picked::Head(shares) => explain::npy(&shares.patches),
                Picked::Class { map, .. } => explain::npy(&map),
                Picked::Layer(heads) => explain::npy_stack(&patches(heads)).map_err(undrawable)?,
            };
            Ok(("application/x-npy", None, array.into()))
        }
        Format::Png => {
            let (view, png) = draw(state, form, found, picked).await?;
            Ok(("image/png", view, png))
        }
    }
}

/// The view that was drawn, which a sheet has none of, and the PNG.
async fn draw(
    state: &AppState,
    form: &Form,
    found: &Found,
    picked: Picked,
) -> Result<(Option<View>, Bytes)> {
    let (style, placement) = (form.style, found.map.placement);
    let picture = found.picture.clone();
    let metrics = Arc::clone(&state.metrics);
    let span = tracing::Span::current();
    let work = move || -> std::result::Result<(Option<View>, Bytes), explain::Invalid> {
        let _render = tracing::debug_span!(parent: &span, "render").entered();
        let started = Instant::now();
        let over = |map: &PatchMap, scale: Scale| {
            let mut style = style;
            let picture: Option<Raster> =
                picture.map(|jpeg| explain::restore(&jpeg)).transpose()?;
            if picture.is_none() {
                style.view = View::Heatmap;
            }
            let picture = picture.as_ref().map(Raster::view);
            let drawn = explain::render(map, scale, &placement, picture, &style);
            Ok((Some(style.view), drawn))
        };
        let (view, drawn) = match picked {
            Picked::Rollout(Shares { patches, .. }) | Picked::Head(Shares { patches, .. }) => {
                over(&patches, Scale::share(&patches))?
            }
            Picked::Class { map, .. } => over(&map, Scale::signed(&map))?,
            Picked::Layer(heads) => (None, explain::sheet(&patches(heads), None, &style)?),
        };
        let png = explain::png(drawn.view())?;
        metrics.stage(Stage::Render, started.elapsed());
        Ok((view, png.into()))
    };
    let drawn = state.easels.draw(work).await;
    if matches!(drawn, Err(Error::Overloaded { .. })) {
        state.metrics.shed(ShedReason::Render);
    }
    drawn?.map_err(undrawable)
}

fn patches(heads: Vec<Shares>) -> Vec<PatchMap> {
    heads.into_iter().map(|shares| shares.patches).collect()
}

fn undrawable(why: explain::Invalid) -> Error {
    tracing::error!(%why, "a map could not be drawn");
    Error::Internal
}

/// Made of everything that the answer depends on: an id's map never changes, only whether its
/// picture is still there.
fn etag(id: &str, form: &Form, picture: bool) -> String {
    let inputs = format!("{}\n{id}\n{form:?}\n{picture}", crate::VERSION);
    let digest = Sha256::digest(inputs.as_bytes());
    let hex: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

/// Whether the client already has the answer with this strong ETag.
pub(super) fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value
            .to_str()
            .unwrap_or_default()
            .split(',')
            .any(|candidate| {
                let candidate = candidate.trim();
                candidate == "*" || candidate.trim_start_matches("W/") == etag
            })
    })
}

/// Headers that allow the client, and nobody between, to keep the answer while the map lives.
fn cached(found: &Found, etag: &str) -> [(HeaderName, String); 3] {
    [
        (header::ETAG, etag.to_owned()),
        (
            header::CACHE_CONTROL,
            format!("private, max-age={}, immutable", found.expires_in_s),
        ),
        (header::VARY, "Accept".to_owned()),
    ]
}
