//! `POST /classify`.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Extension, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    AppState, Problem, RequestId, auth::Allowance, query::Query, server_timing, upload, verify,
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

/// The header that shortens the server's time-out for one request, in seconds.
const REQUEST_TIMEOUT: &str = "request-timeout";

/// One picture gives its result; several give `{"results": […]}` in their order.
pub(super) async fn classify(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(owner): Extension<Owner>,
    Extension(allowance): Extension<Allowance>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let admitted = match admit(&state, owner, parts.uri.query(), &parts.headers) {
        Ok(admitted) => admitted,
        Err(why) => return Problem::new(&why, &id).into_response(),
    };
    let outcome = async {
        let body = upload::read(&parts.headers, body, state.limits, &state.metrics).await?;
        let pictures = upload::pictures(&parts.headers, body).await?;
        allowance.pictures(pictures.len());
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
    _room: OwnedSemaphorePermit,
}

fn admit(
    state: &AppState,
    owner: Owner,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Admitted> {
    let mut query = Query::parse(query)?;
    let classifier = state.models.resolve(query.text("model")?.as_deref())?;
    let options = options(owner, query, &classifier.model)?;
    let deadline = Deadline::after(time_allowed(headers, state.limits.request_timeout)?);
    classifier.admit(deadline)?;
    let room = state.uploads.admit(headers, state.limits);
    if room.is_err() {
        state.metrics.shed("upload_memory");
    }
    Ok(Admitted {
        classifier,
        options,
        deadline,
        testable: state.verify.is_some(),
        _room: room?,
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
                let mut response = Json(answer).into_response();
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
    let mut response = (status, Json(Results { results })).into_response();
    // Their stages overlap; each result has its own.
    server_timing::add(&mut response, &[("total", started.elapsed())]);
    response
}

#[derive(Serialize)]
struct Results {
    results: Vec<Item>,
}

/// What became of one picture of several.
#[derive(Serialize)]
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

fn options(owner: Owner, mut query: Query, model: &ModelInfo) -> Result<Options> {
    let classes = model.manifest.task.classes;
    let default = DEFAULT_TOP_K.min(classes);
    let top_k = query.value("top_k")?.unwrap_or(default);
    if !(1..=classes).contains(&top_k) {
        let detail = format!("{top_k} is not between 1 and {classes}, the number of classes");
        return Err(Error::InvalidParameter {
            name: "top_k",
            detail,
        });
    }
    let min_score: f32 = query.value("min_score")?.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&min_score) {
        let detail = "it must be between 0 and 1".to_owned();
        return Err(Error::InvalidParameter {
            name: "min_score",
            detail,
        });
    }
    let attention = query.value("attention")?.unwrap_or(Keep::Rollout);
    query.finish("top_k, min_score, attention, model")?;
    Ok(Options {
        top_k,
        min_score,
        attention,
        owner,
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

/// The server's time-out, or less if the client asks for less.
pub(super) fn time_allowed(headers: &HeaderMap, server: Duration) -> Result<Duration> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else {
        return Ok(server);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok())
        .filter(|&seconds| seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.min(1e9)).ok())
        .map(|asked| asked.min(server))
        .ok_or_else(|| Error::InvalidParameter {
            name: "Request-Timeout",
            detail: "it must be a number of seconds above 0".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(header: &'static str) -> Result<Duration> {
        let headers = HeaderMap::from_iter([(
            header::HeaderName::from_static(REQUEST_TIMEOUT),
            HeaderValue::from_static(header),
        )]);
        time_allowed(&headers, Duration::from_secs(10))
    }

    #[test]
    fn a_request_can_only_shorten_its_time() {
        assert_eq!(allowed("2.5").unwrap(), Duration::from_millis(2500));
        assert_eq!(allowed("3600").unwrap(), Duration::from_secs(10));
        assert_eq!(allowed("inf").unwrap(), Duration::from_secs(10));
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for header in ["", "0", "-1", "NaN", "10s"] {
            assert!(allowed(header).is_err(), "{header}");
        }
    }
}
