//! `POST /` and `POST /models/{name}`: image classification as Hugging Face's clients ask for it.
//!
//! `huggingface_hub.InferenceClient` and `@huggingface/inference` send an image as it is, or as
//! base64 in JSON where they have parameters, and get labels and scores, nothing else. The id of the
//! map is in a header, so that a caller can still ask why. What goes wrong is said as
//! `{"error": …}` ([`oip_errors`](super::oip_errors)).

use std::borrow::Cow;

use axum::{
    Json,
    extract::{Extension, Path, Request, State},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use patchlight_escape::Excerpt;
use patchlight_model::{manifest::TaskKind, scores::ScoreFunction};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState, Problem, RequestId, client_address,
    content_encoding::ContentEncoding,
    openapi::{Binary, CLASSIFICATION, OipRefused},
    request_timeout::{RequestTimeout, requested_timeout},
    upload::{self, SentImage},
};
use crate::{
    Error, Result, bom,
    classify::{Classification, MapRetention, Options},
    service::{Caller, RequestDescriptor, RequestedOptions},
};

/// The id of the image's map; absent where none is kept.
const ATTENTION_ID: HeaderName = HeaderName::from_static("x-attention-id");

/// Labels of an image, in the form of Hugging Face's image classification task.
///
/// The default model answers. The header `X-Attention-Id` has the id of the image's map.
#[utoipa::path(
    post, path = "/", operation_id = "task", tag = CLASSIFICATION,
    params(RequestTimeout),
    request_body(description = "An image, or JSON with one and parameters.", content(
        (TaskRequest<'_> = "application/json", example = json!({"inputs": "R0lGODlhAQABAAAAACw=", "parameters": {"top_k": 3}})),
        (inline(Binary) = "application/octet-stream"),
    )),
    responses(
        (
            status = 200, description = "Labels, best first.", body = [TaskLabel],
            headers(("X-Attention-Id" = String, description = "The id of the image's map, if one is kept.")),
            example = json!([{"label": "elephant", "score": 0.93}]),
        ),
        OipRefused<400>, OipRefused<403>, OipRefused<408>, OipRefused<413>, OipRefused<415>, OipRefused<422>,
        OipRefused<429>, OipRefused<500>, OipRefused<503>, OipRefused<504>,
    ),
)]
pub(super) async fn default_model(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    finished(task(&state, &caller, None, request).await, &id)
}

/// The same of a model by its name.
#[utoipa::path(
    post, path = "/models/{name}", operation_id = "taskOfModel", tag = CLASSIFICATION,
    params(TaskModel, RequestTimeout),
    request_body(description = "An image, or JSON with one and parameters.", content(
        (TaskRequest<'_> = "application/json", example = json!({"inputs": "R0lGODlhAQABAAAAACw=", "parameters": {"top_k": 3}})),
        (inline(Binary) = "application/octet-stream"),
    )),
    responses(
        (
            status = 200, description = "Labels, best first.", body = [TaskLabel],
            headers(("X-Attention-Id" = String, description = "The id of the image's map, if one is kept.")),
            example = json!([{"label": "elephant", "score": 0.93}]),
        ),
        OipRefused<400>, OipRefused<403>, OipRefused<404>, OipRefused<408>, OipRefused<413>, OipRefused<415>,
        OipRefused<422>, OipRefused<429>, OipRefused<500>, OipRefused<503>, OipRefused<504>,
    ),
)]
pub(super) async fn named_model(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    Path(TaskModel { name }): Path<TaskModel>,
    request: Request,
) -> Response {
    finished(task(&state, &caller, Some(&name), request).await, &id)
}

/// The model that a path names.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TaskModel {
    /// As it is served.
    #[param(example = "demo")]
    name: String,
}

/// An image with parameters.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TaskRequest<'a> {
    /// Base64, or a data: URL of it, or the image's URL where the operator allows its host.
    #[schema(value_type = String)]
    #[serde(borrow)]
    inputs: Cow<'a, str>,
    /// What is wanted of it.
    #[serde(default)]
    parameters: Option<TaskParameters>,
    /// What clients may send for the hub's own service; nothing here depends on it.
    #[serde(default, rename = "options")]
    #[schema(value_type = Option<Object>)]
    _options: Option<serde::de::IgnoredAny>,
}

/// What is wanted of an image.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TaskParameters {
    /// How many labels; all of them if there are fewer.
    #[schema(minimum = 1, default = 5)]
    top_k: Option<usize>,
    /// What makes scores of logits; by default what the model was trained with.
    function_to_apply: Option<FunctionName>,
}

/// What makes scores of logits.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum FunctionName {
    Softmax,
    Sigmoid,
    None,
}

/// A label and its score.
#[derive(Serialize, ToSchema)]
struct TaskLabel {
    label: String,
    score: f32,
}

async fn task(
    state: &AppState,
    caller: &Caller,
    model: Option<&str>,
    request: Request,
) -> Result<Classification> {
    let (parts, body) = request.into_parts();
    let encoding = ContentEncoding::of_body(&parts.headers)?;
    let classifier = state.service.models.resolve(model)?;
    let mut admitted = state.service.admit(RequestDescriptor {
        caller,
        address: client_address::address(&parts.extensions),
        classifier: &classifier,
        timeout: requested_timeout(&parts.headers)?,
        content_length: upload::content_length(&parts.headers),
    })?;
    let is_compressed = upload::is_compressed(&parts.headers);
    let body = admitted.receive(body.into_data_stream(), is_compressed);
    let body = body.await?;
    let (limit, is_json) = (
        state.service.limits.max_body,
        upload::is_json(&parts.headers),
    );
    let read = move || read(encoding.decompress(body, limit)?, is_json);
    let (image, parameters) = match is_json || is_compressed {
        true => state.oip.run_blocking(admitted.deadline(), read).await??,
        false => read()?,
    };
    let images = upload::fetched(state, &mut admitted, vec![image]).await?;
    let task = &classifier.model.manifest.task;
    let requested = RequestedOptions {
        // As the library's own pipeline does, which cuts it to the number of classes.
        top_k: parameters.top_k.map(|top_k| top_k.min(task.classes)),
        attention: Some(MapRetention::Rollout),
        ..RequestedOptions::default()
    };
    let options = Options {
        // Logits may be negative.
        min_score: f32::MIN,
        scores: Some(score_function(parameters.function_to_apply, task.kind)),
        ..requested.resolve(caller.owner(), &classifier.model)?
    };
    let mut outcomes = admitted.classify(images, options).await;
    outcomes.pop().unwrap_or(Err(Error::Internal))
}

fn score_function(asked: Option<FunctionName>, kind: TaskKind) -> ScoreFunction {
    match asked {
        None => ScoreFunction::of(kind),
        Some(FunctionName::Softmax) => ScoreFunction::Softmax,
        Some(FunctionName::Sigmoid) => ScoreFunction::Sigmoid,
        Some(FunctionName::None) => ScoreFunction::Identity,
    }
}

/// The encoded image of a body, and what is wanted of it.
fn read(body: Bytes, is_json: bool) -> Result<(SentImage, TaskParameters)> {
    if body.is_empty() {
        return Err(Error::MalformedRequest(
            "the body is empty; send an image, or JSON with one in base64".into(),
        ));
    }
    if !is_json {
        return Ok((SentImage::Bytes(body), TaskParameters::default()));
    }
    let request: TaskRequest<'_> = serde_json::from_slice(bom::strip(&body)).map_err(|error| {
        let error = Excerpt(error);
        Error::MalformedRequest(
            format_args!(
                "JSON body: {error}; expected {{\"inputs\": \"<base64>\", \"parameters\": \
                 {{\"top_k\": 5, \"function_to_apply\": \"softmax\"}}}}"
            )
            .into(),
        )
    })?;
    let inputs = request.inputs.trim();
    let image = match inputs.starts_with("https://") || inputs.starts_with("http://") {
        true => SentImage::Url(inputs.to_owned()),
        false => SentImage::Bytes(upload::base64::decode(inputs)?),
    };
    Ok((image, request.parameters.unwrap_or_default()))
}

fn finished(outcome: Result<Classification>, id: &RequestId) -> Response {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(error) => return Problem::new(&error, id).into_response(),
    };
    let labels = answer.predictions.into_iter().map(|prediction| TaskLabel {
        label: prediction.label,
        score: prediction.score,
    });
    let mut response = Json(labels.collect::<Vec<_>>()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let kept = answer.id.and_then(|id| HeaderValue::try_from(id).ok());
    if let Some(id) = kept {
        headers.insert(ATTENTION_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<(SentImage, TaskParameters)> {
        read(Bytes::copy_from_slice(body.as_bytes()), true)
    }

    #[test]
    fn parameters_may_be_missing_null_or_partial() {
        for body in [
            r#"{"inputs": "AAAA"}"#,
            r#"{"inputs": "AAAA", "parameters": null}"#,
            r#"{"inputs": "AAAA", "parameters": {}, "options": {"wait_for_model": true}}"#,
            r#"{"inputs": "data:image/png;base64,AAAA", "parameters": {"top_k": null}}"#,
        ] {
            let (image, parameters) = parsed(body).unwrap();
            assert_eq!(
                image,
                SentImage::Bytes(Bytes::from_static(&[0; 3])),
                "{body}"
            );
            assert!(parameters.top_k.is_none(), "{body}");
        }
        let (_, parameters) = parsed(
            r#"{"inputs": "AAAA", "parameters": {"function_to_apply": "none", "top_k": 2}}"#,
        )
        .unwrap();
        assert_eq!(parameters.top_k, Some(2));
        let function = score_function(parameters.function_to_apply, TaskKind::MultiLabel);
        assert_eq!(function, ScoreFunction::Identity);
    }

    #[test]
    fn inputs_may_be_a_url_as_for_the_librarys_own_pipeline() {
        let (image, _) = parsed(r#"{"inputs": "https://example.org/cat.jpg"}"#).unwrap();
        assert_eq!(
            image,
            SentImage::Url("https://example.org/cat.jpg".to_owned())
        );
    }

    #[test]
    fn a_parameter_that_is_not_known_is_named() {
        let error = parsed(r#"{"inputs": "AAAA", "parameters": {"topk": 2}}"#).unwrap_err();
        assert!(error.to_string().contains("topk"), "{error}");
        assert!(parsed("{}").is_err());
        assert!(read(Bytes::new(), false).is_err());
    }
}
