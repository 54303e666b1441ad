//! `POST /classify`.

mod sending;

use std::{str::FromStr, sync::Arc, time::Instant};

use axum::{
    extract::{Extension, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::{
    AppState, Problem, RequestId,
    auth::Allowance,
    oip::coding::Coding,
    openapi::{Binary, PICTURES, Refused, RefusedOr},
    query::Query,
    request_timeout::{RequestTimeout, time_allowed},
    server_timing, upload, verify,
};
use crate::{
    Error, Result,
    batch::{Announced, Deadline},
    classify::{Classification, Classifier, Keep, Options},
    metrics::ShedReason,
    model::ModelInfo,
    store::Owner,
};

/// How many labels are returned unless the request says otherwise.
const DEFAULT_TOP_K: usize = 5;

/// How many pictures of one request are worked on at a time, so that it takes no more than its
/// share of the decode threads.
const AT_ONCE: usize = 8;

/// Labels for one to sixteen pictures.
///
/// The bytes decide what a picture is, never the header: JPEG, PNG, WebP, or the first frame of a
/// GIF. One picture gives its result; several give all results in their order, each either a result
/// or a problem, with status 200 if any was processed.
#[utoipa::path(
    post, path = "/classify", operation_id = "classify", tag = PICTURES,
    params(Asked, RequestTimeout),
    request_body(description = "The pictures.", content(
        (upload::PictureForm = "multipart/form-data"),
        (upload::PictureJson<'_> = "application/json", example = json!({"image": "R0lGODlhAQABAAAAACw="})),
        (inline(Binary) = "image/jpeg"),
        (inline(Binary) = "image/png"),
        (inline(Binary) = "image/webp"),
        (inline(Binary) = "image/gif"),
        (inline(Binary) = "application/octet-stream"),
    )),
    responses(
        (
            status = 200, description = "One picture's result, or those of several in their order.",
            body = Answer,
            links(
                ("itsMap" = (
                    operation_id = "attention", parameters(("id" = "$response.body#/id")),
                    description = "The map of the picture.",
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
                ("one picture" = (value = json!(example()))),
                ("several pictures" = (value = json!({"results": [example(), Problem::example()]}))),
            ),
        ),
        Refused<400>, Refused<404>, Refused<408>, Refused<413>,
        RefusedOr<415, Results>, RefusedOr<422, Results>, Refused<429>, RefusedOr<500, Results>,
        RefusedOr<503, Results>, RefusedOr<504, Results>,
    ),
)]
pub(super) async fn classify(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Extension(allowance): Extension<Allowance>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let (admitted, announced) = match admit(&state, owner, &allowance, &parts) {
        Ok(admitted) => admitted,
        Err(why) => return Problem::new(&why, &id).into_response(),
    };
    let outcome = async {
        let body = upload::read(&parts.headers, body, state.limits, &state.metrics).await?;
        let (coding, deadline) = (admitted.coding, admitted.deadline);
        let pictures = upload::unframed(&state, &parts.headers, body, coding, deadline).await?;
        allowance.pictures(pictures.len());
        // From here on each picture announces itself.
        drop(announced);
        run(&admitted, pictures, &id).await
    };
    let mut response = match outcome.await {
        Ok(response) => response,
        Err(why) => Problem::new(&why, &id).into_response(),
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is settled before the body is read, and held until the answer is made.
struct Admitted {
    /// The model that was asked, even if it is replaced meanwhile.
    classifier: Arc<Classifier>,
    options: Options,
    deadline: Deadline,
    /// How the body is compressed.
    coding: Coding,
    /// Whether maps can be tested by perturbation.
    testable: bool,
    /// For the body.
    _room: OwnedSemaphorePermit,
}

fn admit(
    state: &AppState,
    owner: Owner,
    allowance: &Allowance,
    Parts { uri, headers, .. }: &Parts,
) -> Result<(Admitted, Announced)> {
    let asked = Asked::read(uri.query())?;
    let coding = Coding::of_body(headers)?;
    let classifier = state.models.resolve(asked.model.as_deref())?;
    let options = options(owner, &asked, &classifier.model)?;
    allowance.admit(&state.metrics)?;
    let deadline = Deadline::after(time_allowed(headers, state.limits.request_timeout)?);
    let announced = classifier.admit(deadline)?;
    let room = state.uploads.admit(headers, state.limits);
    if room.is_err() {
        state.metrics.shed(ShedReason::UploadMemory);
    }
    let admitted = Admitted {
        classifier,
        options,
        deadline,
        coding,
        testable: state.verify.is_some(),
        _room: room?,
    };
    Ok((admitted, announced))
}

async fn run(
    admitted: &Admitted,
    mut pictures: Vec<bytes::Bytes>,
    id: &RequestId,
) -> Result<Response> {
    let Admitted {
        classifier,
        options,
        deadline,
        ..
    } = admitted;
    let (options, deadline) = (*options, *deadline);
    let classify = async |picture| {
        let mut answer = classifier.classify(picture, options, deadline).await?;
        if admitted.testable {
            answer.offer_test(verify::path);
        }
        Ok::<_, Error>(answer)
    };
    if pictures.len() == 1
        && let Some(picture) = pictures.pop()
    {
        let answer = classify(picture).await?;
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
    let started = Instant::now();
    let all = pictures.into_iter().map(classify);
    let results: Vec<Item> = stream::iter(all)
        .buffered(AT_ONCE)
        .map(|outcome| match outcome {
            Ok(answer) => Item::Result(Box::new(answer)),
            Err(why) => Item::Problem(Problem::new(&why, id)),
        })
        .collect()
        .await;
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

/// What became of the pictures of a request.
#[derive(Serialize, ToSchema)]
#[schema(as = ClassifyAnswer)]
#[serde(untagged)]
enum Answer {
    One(Box<Classification>),
    Several(Results),
}

/// What became of several pictures, in their order.
#[derive(Serialize, ToSchema)]
struct Results {
    #[schema(max_items = 16, inline)]
    results: Vec<Item>,
}

/// What became of one picture of several.
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
struct Asked {
    /// How many labels, up to the number of classes.
    #[param(minimum = 1, default = 5, example = 3)]
    top_k: Option<usize>,
    /// Leave out labels below this score.
    #[param(minimum = 0, maximum = 1, default = 0, example = 0.1)]
    min_score: Option<f32>,
    /// Which maps are kept.
    #[param(inline, example = "rollout")]
    attention: Option<Keep>,
    /// Which model; the first one that is served, without.
    #[param(example = "demo")]
    model: Option<String>,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Self> {
        let mut query = Query::parse(query)?;
        let asked = Self {
            top_k: query.value("top_k")?,
            min_score: query.value("min_score")?,
            attention: query.value("attention")?,
            model: query.text("model")?,
        };
        query.finish("top_k, min_score, attention, model")?;
        Ok(asked)
    }
}

fn options(owner: Owner, asked: &Asked, model: &ModelInfo) -> Result<Options> {
    let classes = model.manifest.task.classes;
    let default = DEFAULT_TOP_K.min(classes);
    let top_k = asked.top_k.unwrap_or(default);
    if !(1..=classes).contains(&top_k) {
        return Err(Error::InvalidParameter {
            name: "top_k",
            detail: format_args!("{top_k} is not between 1 and {classes}, the number of classes")
                .into(),
        });
    }
    let min_score = asked.min_score.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&min_score) {
        return Err(Error::InvalidParameter {
            name: "min_score",
            detail: "it must be between 0 and 1".into(),
        });
    }
    Ok(Options {
        top_k,
        min_score,
        attention: asked.attention.unwrap_or(Keep::Rollout),
        owner,
    })
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
impl FromStr for Keep {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "rollout" => Ok(Self::Rollout),
            "heads" => Ok(Self::Heads),
            "none" => Ok(Self::Nothing),
            _ => Err("it must be one of rollout, heads, none"),
        }
    }
}
