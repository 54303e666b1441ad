//! `GET` and `DELETE /attention/{id}`: a kept map as an image, as JSON or as an array.
//!
//! Every id that is not known here gets the same 404, whatever the reason. Images are drawn when
//! asked for, on blocking threads of which only a few may draw at a time, so that maps never
//! starve classification.

mod describe;
mod id;
mod map_request;
mod selected_map;

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Extension, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

pub(super) use self::id::MapPath;
use self::{
    describe::{MapDescription, describe},
    map_request::{Format, MapParams, MapRequest},
    selected_map::{SelectedMap, TokenWeights},
};
use super::{
    AppState, Problem, RequestId,
    openapi::{Binary, CLASSIFICATION, Refused},
    server_timing,
};
use crate::{
    Error, Result,
    explain::{self, PatchMap, Raster, Scale, View},
    metrics::{ShedReason, Stage},
    store::{FoundMap, Owner},
    verify::JobKey,
};

/// Says which view was really drawn: an overlay without a kept image is a heat map.
const VIEW: HeaderName = HeaderName::from_static("x-patchlight-view");

/// A kept map as an image, as numbers or as an array.
///
/// `Accept` says which, and `format` has the last word. Ask for one map: `start_layer` (rollout),
/// `class` with or without `contrast` (evidence), or `layer` with or without `head` (attention).
#[utoipa::path(
    get, path = "/attention/{id}", operation_id = "attention", tag = CLASSIFICATION,
    params(MapPath, MapParams),
    responses(
        (
            status = 200, description = "The map.",
            content(
                (inline(Binary) = "image/png"),
                (MapDescription<'_> = "application/json", example = json!({
                    "id": "gakSA12YEx1y9T-cZUaogg", "model": "demo",
                    "model_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "method": "rollout",
                    "about": "rollout is class-agnostic: one map per image, whatever the label",
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
                    description = "The view that was drawn: an overlay without a kept image is a heat map."
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
    MapPath { id }: MapPath,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let started = Instant::now();
        let found = state.store.get(&id, owner).await?;
        let map_request = MapRequest::read(uri.query(), &headers, &found.map.model)?;
        let selected = SelectedMap::of(&found.map, map_request.selector)?;
        let etag = etag(&id, &map_request, found.preview.is_some());
        if matches_etag(&headers, &etag) {
            return Ok((StatusCode::NOT_MODIFIED, cached(&found, &etag)).into_response());
        }
        let (content_type, view, body) = body(&state, &id, &map_request, &found, selected).await?;
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
        .unwrap_or_else(|error: Error| Problem::new(&error, &request).into_response())
}

/// Forget a map and its image.
#[utoipa::path(
    delete, path = "/attention/{id}", operation_id = "forget", tag = CLASSIFICATION,
    params(MapPath),
    responses(
        (status = 204, description = "It is forgotten."),
        Refused<404>, Refused<409>, Refused<500>, Refused<503>,
    ),
)]
pub(super) async fn forget(
    State(state): State<AppState>,
    Extension(request): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    MapPath { id }: MapPath,
) -> Response {
    // Maps and kept results are those of all models.
    match state
        .service
        .models
        .default_model()
        .delete_map(&id, owner)
        .await
    {
        Ok(()) => {
            if let Some(jobs) = &state.verify {
                jobs.cancel(&JobKey::new(owner, &id));
            }
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => Problem::new(&error, &request).into_response(),
    }
}

async fn body(
    state: &AppState,
    id: &str,
    map_request: &MapRequest,
    found: &FoundMap,
    selected: SelectedMap,
) -> Result<(&'static str, Option<View>, Bytes)> {
    match map_request.format {
        Format::Json => {
            let json = describe(id, &found.map, map_request.selector, &selected)?;
            Ok(("application/json", None, json.into()))
        }
        Format::Npy => {
            let array = match selected {
                SelectedMap::Rollout(weights) | SelectedMap::Head(weights) => {
                    explain::npy(&weights.patches)
                }
                SelectedMap::Class { map, .. } => explain::npy(&map),
                SelectedMap::Layer(heads) => {
                    explain::npy_stack(&patches(heads)).map_err(render_failed)?
                }
            };
            Ok(("application/x-npy", None, array.into()))
        }
        Format::Png => {
            let (view, png) = draw(state, map_request, found, selected).await?;
            Ok(("image/png", view, png))
        }
    }
}

/// The view that was drawn, which a sheet has none of, and the PNG.
async fn draw(
    state: &AppState,
    map_request: &MapRequest,
    found: &FoundMap,
    selected: SelectedMap,
) -> Result<(Option<View>, Bytes)> {
    let (style, placement) = (map_request.style, found.map.placement);
    let preview = found.preview.clone();
    let metrics = Arc::clone(&state.metrics);
    let span = tracing::Span::current();
    let work = move || -> std::result::Result<(Option<View>, Bytes), explain::RenderError> {
        let _render = tracing::debug_span!(parent: &span, "render").entered();
        let started = Instant::now();
        let over = |map: &PatchMap, scale: Scale| {
            let mut style = style;
            let preview: Option<Raster> = preview
                .map(|jpeg| explain::decode_preview(&jpeg))
                .transpose()?;
            if preview.is_none() {
                style.view = View::Heatmap;
            }
            let preview = preview.as_ref().map(Raster::view);
            let drawn = explain::render(map, scale, &placement, preview, &style);
            Ok((Some(style.view), drawn))
        };
        let (view, drawn) = match selected {
            SelectedMap::Rollout(TokenWeights { patches, .. })
            | SelectedMap::Head(TokenWeights { patches, .. }) => {
                over(&patches, Scale::share(&patches))?
            }
            SelectedMap::Class { map, .. } => over(&map, Scale::signed(&map))?,
            SelectedMap::Layer(heads) => (None, explain::sheet(&patches(heads), None, &style)?),
        };
        let png = explain::png(drawn.view())?;
        metrics.stage(Stage::Render, started.elapsed());
        Ok((view, png.into()))
    };
    let drawn = state.render_pool.run(work).await;
    if matches!(drawn, Err(Error::Overloaded { .. })) {
        state.metrics.shed(ShedReason::Render);
    }
    drawn?.map_err(render_failed)
}

fn patches(heads: Vec<TokenWeights>) -> Vec<PatchMap> {
    heads.into_iter().map(|weights| weights.patches).collect()
}

fn render_failed(error: explain::RenderError) -> Error {
    tracing::error!(%error, "a map could not be drawn");
    Error::Internal
}

/// A digest of everything that the answer depends on: an id's map never changes, only whether its
/// image is still there.
fn etag(id: &str, map_request: &MapRequest, preview: bool) -> String {
    let inputs = format!("{}\n{id}\n{map_request:?}\n{preview}", crate::VERSION);
    let digest = Sha256::digest(inputs.as_bytes());
    format!("\"{}\"", hex::encode(&digest[..16]))
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

/// Headers that let the client, and no shared cache, keep the answer while the map lives.
fn cached(found: &FoundMap, etag: &str) -> [(HeaderName, String); 3] {
    [
        (header::ETAG, etag.to_owned()),
        (
            header::CACHE_CONTROL,
            format!("private, max-age={}, immutable", found.expires_in_s),
        ),
        (header::VARY, "Accept".to_owned()),
    ]
}
