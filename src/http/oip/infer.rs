//! `POST /v2/models/{model}/infer`.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
    time::timeout_at,
};

use super::{
    asked::{Asked, Framing, Rows, Wanted},
    coding::Coding,
    most_rows,
    target::{Named, Target},
};
use crate::{
    Error, Result,
    batch::{Announced, Deadline, Inference},
    classify::Classifier,
    http::{
        AppState, Problem, RequestId,
        auth::Allowance,
        openapi::{Binary, OIP, OipRefused},
        request_timeout::{RequestTimeout, time_allowed},
        upload,
    },
    metrics::ShedReason,
    model::{ModelInfo, scores},
    oip::{
        Encoded, Face, InferResponse, Passed, Tensor, VERSION, Values, face::ROLLOUT,
        request::Document, response::classification, statistics::Took,
    },
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
        Named, RequestTimeout,
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
    Extension(allowance): Extension<Allowance>,
    target: Target,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    // The room is held until the answer is made, as the body is.
    let admitted = admit(&state, &allowance, &target.classifier, &parts.headers);
    let (deadline, framing, announced, _room) = match admitted {
        Ok(admitted) => admitted,
        Err(why) => return Problem::new(&why, &id).into_response(),
    };
    let read = upload::read(&parts.headers, body, state.limits, &state.metrics).await;
    let started = Instant::now();
    let outcome = async {
        let coding = Coding::accepted(&parts.headers);
        let body = (read?, announced);
        answer(&state, &target, &allowance, body, framing, coding, deadline).await
    };
    match outcome.await {
        Ok((response, rows, took)) => {
            state.oip.statistics(&target, |statistics| {
                let total = started.elapsed();
                statistics.succeeded(&rows, Took { total, ..took }, now());
            });
            response
        }
        Err(why) => {
            state.oip.statistics(&target, |statistics| {
                statistics.failed(started.elapsed());
            });
            Problem::new(&why, &id).into_response()
        }
    }
}

/// What can be said before the body is read.
fn admit(
    state: &AppState,
    allowance: &Allowance,
    classifier: &Classifier,
    headers: &HeaderMap,
) -> Result<(Deadline, Framing, Announced, OwnedSemaphorePermit)> {
    let framing = framing(headers, state.limits.max_body, most_rows(classifier))?;
    allowance.admit(&state.metrics)?;
    let deadline = Deadline::after(time_allowed(headers, state.limits.request_timeout)?);
    let announced = classifier.admit(deadline)?;
    let room = state.uploads.admit(headers, state.limits);
    if room.is_err() {
        state.metrics.shed(ShedReason::UploadMemory);
    }
    Ok((deadline, framing, announced, room?))
}

/// How the body behind these headers is to be read: at most `limit` bytes, `most` rows.
pub(super) fn framing(headers: &HeaderMap, limit: u64, most: usize) -> Result<Framing> {
    let json_length = headers.get(&JSON_LENGTH).map(|value| {
        let text = value.to_str().ok();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::InvalidParameter {
                name: "Inference-Header-Content-Length",
                detail: "it must be a number of bytes".into(),
            })
    });
    Ok(Framing {
        coding: Coding::of_body(headers)?,
        json_length: json_length.transpose()?,
        limit,
        most,
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
    most: usize,
    face: Face,
    model: &ModelInfo,
) -> Result<usize> {
    let framing = framing(headers, 1 << 20, most)?;
    let asked = Asked::read(body, framing, face, model)?;
    Ok(asked.rows.count())
}

async fn answer(
    state: &AppState,
    target: &Target,
    allowance: &Allowance,
    (body, announced): (Bytes, Announced),
    framing: Framing,
    coding: Coding,
    deadline: Deadline,
) -> Result<(Response, Vec<Passed>, Took)> {
    let desks = &state.oip.desks;
    let reading = Instant::now();
    let (model, face) = (Arc::clone(&target.classifier.model), target.face);
    let read = move || Asked::read(body, framing, face, &model);
    let asked = at_desk(desks, deadline, read).await??;
    let read = reading.elapsed();

    let deadline = match asked.timeout {
        Some(timeout) => deadline.within(timeout),
        None => deadline,
    };
    allowance.pictures(asked.rows.count());
    // From here on each row announces itself.
    drop(announced);
    let (inferences, prepared) = run(&target.classifier, asked.rows, deadline).await?;
    let passed = inferences.iter().map(|inference| Passed {
        batch: inference.batch,
        batch_size: inference.batch_size,
        queued: inference.queued,
        ran: inference.ran,
    });
    let passed: Vec<Passed> = passed.collect();

    let writing = Instant::now();
    let model = Arc::clone(&target.classifier.model);
    let (model_name, id, outputs) = (target.shown(), asked.id, asked.outputs);
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
        written(&response, coding)
    };
    let response = at_desk(desks, deadline, write).await??;
    let took = Took {
        input: read + prepared,
        output: writing.elapsed(),
        total: Duration::ZERO,
    };
    Ok((response, passed, took))
}

/// Runs every row in whatever batch; the time that the slowest took to become a tensor. The first
/// error is the request's, and its other rows leave the queue.
async fn run(
    classifier: &Classifier,
    rows: Rows,
    deadline: Deadline,
) -> Result<(Vec<Inference>, Duration)> {
    match rows {
        Rows::Tensors(tensors) => {
            let rows = tensors.into_iter();
            let rows = rows.map(|tensor| classifier.run_tensor(tensor, deadline));
            let inferences = try_join_all(rows).await.map_err(|why| match why {
                // The model is sound, so it is the tensor that overflows its arithmetic.
                Error::NotFinite => Error::MalformedRequest(
                    "the model's output for this input is not finite".into(),
                ),
                why => why,
            })?;
            Ok((inferences, Duration::ZERO))
        }
        Rows::Pictures(pictures) => {
            let rows = pictures.into_iter();
            let rows = rows.map(|picture| classifier.run_picture(picture, deadline));
            let all = try_join_all(rows).await?;
            let slowest = all.iter().map(|(_, prepared)| *prepared).max();
            let inferences = all.into_iter().map(|(inference, _)| inference);
            Ok((inferences.collect(), slowest.unwrap_or_default()))
        }
    }
}

/// One output of all rows.
fn tensor(wanted: Wanted, inferences: &[Inference], model: &ModelInfo) -> Tensor {
    let outputs = inferences.iter().map(|inference| &inference.output);
    let Wanted {
        name,
        binary,
        classes,
    } = wanted;
    if let Some(count) = classes {
        let rows: Vec<Vec<f32>> = outputs.map(|output| output.logits.clone()).collect();
        let label = |class| model.labels.name(class);
        return classification(name, &rows, count, scores::ranking, label, binary);
    }
    let tokens = &model.manifest.tokens;
    let values: Vec<f32> = match name {
        // The product over all blocks comes first; the prefix tokens first in it.
        ROLLOUT => outputs
            .flat_map(|output| &output.rollout[tokens.prefix..tokens.total()])
            .copied()
            .collect(),
        _ => outputs.flat_map(|output| &output.logits).copied().collect(),
    };
    let mut shape = Face::output_shape(&model.manifest, name);
    shape.insert(0, inferences.len());
    Tensor {
        name,
        shape,
        values: Values::Fp32(values),
        binary,
    }
}

fn written(response: &InferResponse, coding: Coding) -> Result<Response> {
    let internal = |why: &dyn std::fmt::Display| {
        tracing::error!(%why, "an inference response could not be written");
        Error::Internal
    };
    let Encoded { body, json_length } = response.encode().map_err(|why| internal(&why))?;
    let body = coding.pack(body).map_err(|why| internal(&why))?;
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
    if let Some(coding) = coding.header() {
        headers.insert(header::CONTENT_ENCODING, coding);
    }
    Ok(response)
}

/// Does what computes on a blocking thread, of which only a few work on bodies at a time.
pub(super) async fn at_desk<T: Send + 'static>(
    desks: &Arc<Semaphore>,
    deadline: Deadline,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let place = timeout_at(deadline.at().into(), Arc::clone(desks).acquire_owned())
        .await
        .map_err(|_| deadline.error())?
        // Nobody closes the semaphore.
        .map_err(|_| Error::Internal)?;
    let span = tracing::Span::current();
    let done = task::spawn_blocking(move || {
        let _place = place;
        span.in_scope(work)
    });
    // It has panicked, or the runtime is going down.
    done.await.map_err(|_| Error::Internal)
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
