//! `POST /classify`.

mod sending;

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Extension, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    AppState, Problem, RequestId, client_address,
    content_encoding::ContentEncoding,
    openapi::{Binary, CLASSIFICATION, Refused, RefusedOr},
    query::Query,
    request_timeout::{RequestTimeout, requested_timeout},
    server_timing, upload, verify,
};
use crate::{
    Result,
    classify::{Classification, Classifier, MapRetention, Options},
    service::{Admitted, Caller, RequestDescriptor, RequestedOptions},
};

/// Labels for one to sixteen images.
///
/// The bytes decide what an image is, never the header: JPEG, PNG, WebP, BMP, the first frame
/// of a GIF or the first page of a TIFF. One image gives its result; several give all results in
/// their order, each either a result or a problem, with status 200 if any was processed. JSON may
/// name an image by its URL where the operator allows the host.
#[utoipa::path(
    post, path = "/classify", operation_id = "classify", tag = CLASSIFICATION,
    params(ClassifyParams, RequestTimeout),
    request_body(description = "The images.", content(
        (upload::ImageForm = "multipart/form-data"),
        (upload::ImageJson<'_> = "application/json", example = json!({"image": "R0lGODlhAQABAAAAACw="})),
        (inline(Binary) = "application/octet-stream"),
    )),
    responses(
        (
            status = 200, description = "One image's result, or those of several in their order.",
            body = Answer,
            links(
                ("itsMap" = (
                    operation_id = "attention", parameters(("id" = "$response.body#/id")),
                    description = "The map of the image.",
                )),
                ("testIt" = (
                    operation_id = "testMap", parameters(("id" = "$response.body#/id")),
                    description = "The perturbation test of that map.",
                )),
                ("forgetIt" = (
                    operation_id = "forget", parameters(("id" = "$response.body#/id")),
                    description = "Forgetting that map.",
                )),
            ),
            examples(
                ("one image" = (value = json!(example()))),
                ("several images" = (value = json!({"results": [example(), Problem::example()]}))),
            ),
        ),
        Refused<400>, Refused<403>, Refused<404>, Refused<408>, Refused<413>,
        RefusedOr<415, Results>, RefusedOr<422, Results>, Refused<429>, RefusedOr<500, Results>,
        RefusedOr<503, Results>, RefusedOr<504, Results>,
    ),
)]
pub(super) async fn classify(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    // Held until the answer is ready, as the body is.
    let (params, mut admitted) = match admit(&state, &caller, &parts) {
        Ok(admitted) => admitted,
        Err(error) => return Problem::new(&error, &id).into_response(),
    };
    let outcome = async {
        let is_compressed = upload::is_compressed(&parts.headers);
        let body = admitted.receive(body.into_data_stream(), is_compressed);
        let body = body.await?;
        let (encoding, deadline) = (params.encoding, admitted.deadline());
        let images = upload::unframed(&state, &parts.headers, body, encoding, deadline).await?;
        let images = upload::fetched(&state, &mut admitted, images).await?;
        answer(&state, &mut admitted, images, params.options, &id).await
    };
    let mut response = match outcome.await {
        Ok(response) => response,
        Err(error) => Problem::new(&error, &id).into_response(),
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a request says before its body is read.
struct Params {
    classifier: Arc<Classifier>,
    options: Options,
    /// How the body is compressed.
    encoding: ContentEncoding,
    /// How long the client wants to wait.
    timeout: Option<Duration>,
}

fn admit(state: &AppState, caller: &Caller, parts: &Parts) -> Result<(Params, Admitted)> {
    let params = Params::read(state, caller, parts)?;
    let admitted = state.service.admit(RequestDescriptor {
        caller,
        address: client_address::address(&parts.extensions),
        classifier: &params.classifier,
        timeout: params.timeout,
        content_length: upload::content_length(&parts.headers),
    })?;
    Ok((params, admitted))
}

impl Params {
    fn read(state: &AppState, caller: &Caller, parts: &Parts) -> Result<Self> {
        let params = ClassifyParams::read(parts.uri.query())?;
        let encoding = ContentEncoding::of_body(&parts.headers)?;
        let classifier = state.service.models.resolve(params.model.as_deref())?;
        let requested = RequestedOptions {
            top_k: params.top_k,
            min_score: params.min_score,
            attention: params.attention,
            coverage: params.coverage,
        };
        Ok(Self {
            options: requested.resolve(caller.owner(), &classifier.model)?,
            classifier,
            encoding,
            timeout: requested_timeout(&parts.headers)?,
        })
    }
}

async fn answer(
    state: &AppState,
    admitted: &mut Admitted,
    images: Vec<Bytes>,
    options: Options,
    id: &RequestId,
) -> Result<Response> {
    let started = Instant::now();
    let mut outcomes = admitted.classify(images, options).await;
    if state.verify.is_some() {
        for answer in outcomes.iter_mut().flatten() {
            answer.offer_test(verify::path);
        }
    }
    if outcomes.len() == 1
        && let Some(outcome) = outcomes.pop()
    {
        let answer = outcome?;
        let timing = answer.timing_ms;
        let answer = Answer::One(Box::new(answer));
        let mut response = sending::json(StatusCode::OK, answer, options.top_k).await?;
        server_timing::add(
            &mut response,
            &[
                ("decode", timing.decode),
                ("preprocess", timing.preprocess),
                ("queue", timing.queue),
                ("inference", timing.inference),
                ("total", timing.total),
            ],
        );
        return Ok(response);
    }
    let outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Ok(answer) => Item::Result(Box::new(answer)),
        Err(error) => Item::Problem(Problem::new(&error, id)),
    });
    let results: Vec<Item> = outcomes.collect();
    // 200 if any was processed; if none was, the first one's status speaks for all.
    let status = match results.iter().all(|item| matches!(item, Item::Problem(_))) {
        true => results
            .first()
            .map_or(StatusCode::BAD_REQUEST, Item::status),
        false => StatusCode::OK,
    };
    let predictions = options.top_k.saturating_mul(results.len());
    let answer = Answer::Several(Results { results });
    let mut response = sending::json(status, answer, predictions).await?;
    // Their stages overlap; each result has its own.
    server_timing::add(&mut response, &[("total", started.elapsed())]);
    Ok(response)
}

/// What became of the images of a request.
#[derive(Serialize, ToSchema)]
#[schema(as = ClassifyAnswer)]
#[serde(untagged)]
enum Answer {
    One(Box<Classification>),
    Several(Results),
}

/// What became of several images, in their order.
#[derive(Serialize, ToSchema)]
struct Results {
    #[schema(max_items = 16, inline)]
    results: Vec<Item>,
}

/// What became of one image of several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Item {
    Result(Box<Classification>),
    Problem(Problem),
}

impl Item {
    fn status(&self) -> StatusCode {
        match self {
            Self::Result(_) => StatusCode::OK,
            Self::Problem(problem) => problem.status(),
        }
    }
}

/// The query.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ClassifyParams {
    /// How many labels, up to the number of classes.
    #[param(minimum = 1, default = 5, example = 3)]
    top_k: Option<usize>,
    /// Leave out labels below this score.
    #[param(minimum = 0, maximum = 1, default = 0, example = 0.1)]
    min_score: Option<f32>,
    /// Which maps are kept.
    #[param(inline, example = "rollout")]
    attention: Option<MapRetention>,
    /// How often the prediction set is to hold the right label: a level that the model was
    /// calibrated for.
    #[param(example = 0.95)]
    coverage: Option<f64>,
    /// Which model; the first one that is served, without.
    #[param(example = "demo")]
    model: Option<String>,
}

impl ClassifyParams {
    fn read(query: Option<&str>) -> Result<Self> {
        let mut query = Query::parse(query)?;
        let params = Self {
            top_k: query.value("top_k")?,
            min_score: query.value("min_score")?,
            attention: query.value("attention")?,
            coverage: query.value("coverage")?,
            model: query.text("model")?,
        };
        query.finish("top_k, min_score, attention, coverage, model")?;
        Ok(params)
    }
}

/// An answer as it may look.
fn example() -> serde_json::Value {
    json!({
        "id": "gakSA12YEx1y9T-cZUaogg", "model": "demo",
        "predictions": [{"class_id": 11, "label": "elephant", "score": 0.93}],
        "attention": {
            "url": "/attention/gakSA12YEx1y9T-cZUaogg", "method": "rollout",
            "maps": ["rollout", "class"], "expires_in_s": 3600,
        },
        "confidence": {
            "calibrated_score": 0.97, "set": [{"class_id": 11, "label": "elephant", "score": 0.93}], "coverage": 0.95,
            "familiar": true, "familiarity": 0.41,
        },
        "image": {
            "width": 1200, "height": 800, "format": "jpeg",
            "region": {"x": 0, "y": 0, "width": 1200, "height": 800},
        },
        "timing_ms": {
            "decode": 4.1, "preprocess": 2.0, "queue": 0.1, "inference": 15.2, "total": 21.6,
        },
    })
}

/// The values of `attention=`.
impl FromStr for MapRetention {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "rollout" => Ok(Self::Rollout),
            "heads" => Ok(Self::Heads),
            "none" => Ok(Self::None),
            _ => Err("it must be one of rollout, heads, none"),
        }
    }
}
