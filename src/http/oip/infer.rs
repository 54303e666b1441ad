//! `POST /v2/models/{model}/infer`.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use patchlight_model::{ModelInfo, scores};

use super::{
    parsed_request::{Framing, OutputSpec, ParsedInferRequest},
    target::{ModelPath, Target},
};
use crate::http::content_encoding::ContentEncoding;
use crate::{
    Error, Result,
    batch::Inference,
    classify::Classifier,
    http::{
        AppState, Problem, RequestId, client_address,
        openapi::{Binary, OIP, OipRefused},
        request_timeout::{RequestTimeout, requested_timeout},
        upload,
    },
    oip::{
        EncodedResponse, InferResponse, ModelVariant, RowStats, Tensor, VERSION, Values,
        request::Document, response::classification, statistics::RequestDurations,
        variant::ROLLOUT,
    },
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
    let body = body.await;
    let started = Instant::now();
    let outcome = async {
        let encoding = ContentEncoding::accepted(&parts.headers);
        answer(&state, &target, &mut admitted, body?, framing, encoding).await
    };
    match outcome.await {
        Ok((response, rows, took)) => {
            state.oip.statistics(&target, |statistics| {
                let total = started.elapsed();
                statistics.succeeded(&rows, RequestDurations { total, ..took }, now());
            });
            response
        }
        Err(error) => {
            state.oip.statistics(&target, |statistics| {
                statistics.failed(started.elapsed());
            });
            Problem::new(&error, &id).into_response()
        }
    }
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
    body: Bytes,
    max_rows: usize,
    variant: ModelVariant,
    model: &ModelInfo,
) -> Result<usize> {
    let framing = framing(headers, 1 << 20, max_rows)?;
    let parsed = ParsedInferRequest::read(body, framing, variant, model)?;
    Ok(parsed.rows.count())
}

async fn answer(
    state: &AppState,
    target: &Target,
    admitted: &mut Admitted,
    body: Bytes,
    framing: Framing,
    encoding: ContentEncoding,
) -> Result<(Response, Vec<RowStats>, RequestDurations)> {
    let body_pool = &state.oip.body_pool;
    let reading = Instant::now();
    let (model, variant) = (Arc::clone(&target.classifier.model), target.variant);
    let read = move || ParsedInferRequest::read(body, framing, variant, &model);
    let parsed = body_pool.run(admitted.deadline(), read).await??;
    let read = reading.elapsed();

    if let Some(timeout) = parsed.timeout {
        admitted.shorten(timeout);
    }
    let (inferences, prepared) = admitted.infer(parsed.rows).await?;
    let row_stats = inferences.iter().map(|inference| RowStats {
        batch: inference.batch,
        batch_size: inference.batch_size,
        queued: inference.queued,
        ran: inference.ran,
    });
    let row_stats: Vec<RowStats> = row_stats.collect();

    let writing = Instant::now();
    let model = Arc::clone(&target.classifier.model);
    let (model_name, id, outputs) = (target.display_name(), parsed.id, parsed.outputs);
    let write = move || {
        let tensors = outputs.iter();
        let outputs = tensors
            .map(|output| tensor(*output, &inferences, &model))
            .collect();
        let response = InferResponse {
            model_name,
            model_version: VERSION,
            id,
            outputs,
        };
        to_response(&response, encoding)
    };
    let response = body_pool.run(admitted.deadline(), write).await??;
    let took = RequestDurations {
        input: read + prepared,
        output: writing.elapsed(),
        total: Duration::ZERO,
    };
    Ok((response, row_stats, took))
}

/// One output of all rows.
fn tensor(spec: OutputSpec, inferences: &[Inference], model: &ModelInfo) -> Tensor {
    let outputs = inferences.iter().map(|inference| &inference.output);
    let OutputSpec {
        name,
        binary,
        classes,
    } = spec;
    if let Some(count) = classes {
        let rows: Vec<Vec<f32>> = outputs.map(|output| output.logits.clone()).collect();
        let label = |class| model.labels.name(class);
        return classification(name, &rows, count, scores::ranking, label, binary);
    }
    let tokens = &model.manifest.tokens;
    let values: Vec<f32> = match name {
        // The product over all blocks comes first; the prefix tokens first in it.
        ROLLOUT => outputs
            .filter_map(|output| output.rollout.get(tokens.prefix..tokens.total()))
            .flatten()
            .copied()
            .collect(),
        _ => outputs.flat_map(|output| &output.logits).copied().collect(),
    };
    let mut shape = ModelVariant::output_shape(&model.manifest, name);
    shape.insert(0, inferences.len());
    Tensor {
        name,
        shape,
        values: Values::Fp32(values),
        binary,
    }
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

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
