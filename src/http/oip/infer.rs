//! `POST /v2/models/{model}/infer`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use patchlight_model::ModelInfo;

use super::{framing::Framing, target::ModelPath};
use crate::http::content_encoding::ContentEncoding;
use crate::{
    Error, Result,
    classify::Classifier,
    http::{
        AppState, Problem, RequestId, client_address,
        openapi::{Binary, OIP, OipRefused},
        request_timeout::{RequestTimeout, requested_timeout},
        upload,
    },
    oip::{EncodedResponse, InferResponse, Target, request::Document},
    service::{Admitted, Caller, RequestDescriptor, max_rows},
};

/// How many bytes of a body are JSON.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Inference.
///
/// Each row of the request runs in whatever batch there is, and the answer comes when all are done.
/// Bodies may be compressed with gzip or deflate. With `Inference-Header-Content-Length: N` the
/// first N bytes are JSON and binary tensors follow; with 0 the whole body is the only input.
/// docs/oip.md has the rules.
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", operation_id = "v2Infer", tag = OIP,
    params(
        ModelPath, RequestTimeout,
        (
            "Inference-Header-Content-Length" = Option<usize>, Header, nullable = false,
            description = "How many bytes of the body are JSON; all, without.",
        ),
    ),
    request_body(description = "JSON, or JSON followed by binary tensors.", content(
        (Document<'_> = "application/json", example = json!({
            "id": "7", "parameters": {"timeout": 2_000_000},
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["/9j/4AAQ"]}],
            "outputs": [{"name": "logits", "parameters": {"classification": 1}}],
        })),
        (inline(Binary) = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "The outputs: JSON, or JSON followed by binary tensors.", content(
            (InferResponse = "application/json", example = json!({
                "model_name": "demo_image", "model_version": "1", "id": "7",
                "outputs": [{
                    "name": "logits", "datatype": "BYTES", "shape": [1, 1],
                    "data": ["8.377615:10:penguin"],
                }],
            })),
            (inline(Binary) = "application/octet-stream"),
        )),
        OipRefused<400>, OipRefused<404>, OipRefused<408>, OipRefused<413>, OipRefused<415>,
        OipRefused<422>, OipRefused<429>, OipRefused<500>, OipRefused<503>, OipRefused<504>,
    ),
)]
pub(super) async fn infer(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    target: Target,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    // Held until the answer is ready, as the body is.
    let (framing, mut admitted) = match admit(&state, &caller, &target.classifier, &parts) {
        Ok(admitted) => admitted,
        Err(error) => return Problem::new(&error, &id).into_response(),
    };
    let is_compressed = upload::is_compressed(&parts.headers);
    let body = admitted.receive(body.into_data_stream(), is_compressed);
    let body = match body.await {
        Ok(body) => body,
        Err(error) => {
            state.oip.count_failure(&target, Duration::ZERO);
            return Problem::new(&error, &id).into_response();
        }
    };
    let encoding = ContentEncoding::accepted(&parts.headers);
    let variant = target.variant;
    let read = move |model: &ModelInfo| framing.read(body, variant, model);
    let write = move |response: InferResponse| to_response(&response, encoding);
    let answer = state.oip.infer(&target, &mut admitted, read, write).await;
    answer.unwrap_or_else(|error| Problem::new(&error, &id).into_response())
}

/// What can be said before the body is read.
fn admit(
    state: &AppState,
    caller: &Caller,
    classifier: &Arc<Classifier>,
    parts: &Parts,
) -> Result<(Framing, Admitted)> {
    let (headers, service) = (&parts.headers, &state.service);
    let framing = framing(headers, service.limits.max_body, max_rows(classifier))?;
    let admitted = service.admit(RequestDescriptor {
        caller,
        address: client_address::address(&parts.extensions),
        classifier,
        timeout: requested_timeout(headers)?,
        content_length: upload::content_length(headers),
    })?;
    Ok((framing, admitted))
}

/// How the body behind these headers is to be read: at most `limit` bytes, `max_rows` rows.
pub(super) fn framing(headers: &HeaderMap, limit: u64, max_rows: usize) -> Result<Framing> {
    let json_length = headers.get(&JSON_LENGTH).map(|value| {
        let text = value.to_str().ok();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::InvalidParameter {
                name: "Inference-Header-Content-Length",
                detail: "it must be a number of bytes".into(),
            })
    });
    Ok(Framing {
        encoding: ContentEncoding::of_body(headers)?,
        json_length: json_length.transpose()?,
        limit,
        max_rows,
    })
}

/// How many rows a body has that is read with these headers.
///
/// # Errors
/// Why a client would be refused.
#[cfg(any(test, fuzzing))]
pub(crate) fn count_rows(
    headers: &HeaderMap,
    body: bytes::Bytes,
    max_rows: usize,
    variant: crate::oip::ModelVariant,
    model: &ModelInfo,
) -> Result<usize> {
    let framing = framing(headers, 1 << 20, max_rows)?;
    let parsed = framing.read(body, variant, model)?;
    Ok(parsed.rows.count())
}

fn to_response(response: &InferResponse, encoding: ContentEncoding) -> Result<Response> {
    let internal = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "an inference response could not be written");
        Error::Internal
    };
    let EncodedResponse { body, json_length } =
        response.encode().map_err(|error| internal(&error))?;
    let body = encoding.compress(body).map_err(|error| internal(&error))?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let content_type = match json_length {
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(length) = json_length {
        headers.insert(JSON_LENGTH, length.into());
    }
    if let Some(encoding) = encoding.header() {
        headers.insert(header::CONTENT_ENCODING, encoding);
    }
    Ok(response)
}
