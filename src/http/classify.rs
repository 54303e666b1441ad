//! `POST /classify`.

use std::{str::FromStr, sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{Extension, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    AppState, Problem, RequestId,
    auth::Allowance,
    openapi::{Binary, PICTURES, Refused, RefusedOr},
    query::Query,
    request_timeout::{RequestTimeout, time_allowed},
    server_timing, upload, verify,
};
use crate::{
    Error, Result,
    batch::Deadline,
    classify::{Classification, Classifier, Keep, Options},
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
        RefusedOr<415, Results>, RefusedOr<422, Results>, RefusedOr<500, Results>,
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
    let mut admitted = match admit(&state, owner, &parts) {
        Ok(admitted) => admitted,
        Err(why) => return Problem::new(&why, &id).into_response(),
    };
    let outcome = async {
        let (limits, reservation) = (state.limits, &mut admitted.reservation);
        let body = upload::read(&parts.headers, body, limits, &state.metrics, reservation).await?;
        // Only now is there something that others would have to wait for.
        let announced = admitted.classifier.admit(admitted.deadline)?;
        let pictures = upload::pictures(&parts.headers, body).await?;
        allowance.pictures(pictures.len());
        // From here on each picture announces itself.
        drop(announced);
        Ok(run(&admitted, pictures, &id).await)
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
    /// Whether maps can be tested by perturbation.
    testable: bool,
    /// For the body.
    reservation: upload::Reservation,
}

fn admit(state: &AppState, owner: Owner, parts: &Parts) -> Result<Admitted> {
    let asked = Asked::read(parts.uri.query())?;
    let classifier = state.models.resolve(asked.model.as_deref())?;
    let options = options(owner, &asked, &classifier.model)?;
    let allowed = time_allowed(&parts.headers, state.limits.request_timeout)?;
    let deadline = Deadline::after(allowed);
    classifier.has_time(deadline)?;
    Ok(Admitted {
        classifier,
        options,
        deadline,
        testable: state.verify.is_some(),
        reservation: upload::admit(state, parts)?,
    })
}

async fn run(admitted: &Admitted, mut pictures: Vec<bytes::Bytes>, id: &RequestId) -> Response {
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
        return match classify(picture).await {
            Ok(answer) => {
                let timing = answer.timing_ms;
                let mut response = Json(Answer::One(Box::new(answer))).into_response();
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
                response
            }
            Err(why) => Problem::new(&why, id).into_response(),
        };
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
    let answer = Answer::Several(Results { results });
    let mut response = (status, Json(answer)).into_response();
    // Their stages overlap; each result has its own.
    server_timing::add(&mut response, &[("total", started.elapsed())]);
    response
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
        let detail = format!("{top_k} is not between 1 and {classes}, the number of classes");
        return Err(Error::InvalidParameter {
            name: "top_k",
            detail,
        });
    }
    let min_score = asked.min_score.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&min_score) {
        let detail = "it must be between 0 and 1".to_owned();
        return Err(Error::InvalidParameter {
            name: "min_score",
            detail,
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
