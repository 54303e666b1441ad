//! The answers of errors, made by making the errors: one for each status, with an example of every
//! code that has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    time::Duration,
};

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, Header, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder,
        Schema, Type, content::Content, example::ExampleBuilder,
    },
};

use crate::{
    Error,
    http::{Problem, RequestId, oip::OipError},
};

/// The problem document of a status, for the answers of an operation.
pub(in crate::http) struct Refused<const STATUS: u16>;

/// The same as the Open Inference Protocol words it.
pub(in crate::http) struct OipRefused<const STATUS: u16>;

/// The problem document of a status, or `B` in JSON.
pub(in crate::http) struct RefusedOr<const STATUS: u16, B>(PhantomData<B>);

impl<const STATUS: u16> IntoResponses for Refused<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        reference(STATUS, &plain(STATUS))
    }
}

impl<const STATUS: u16> IntoResponses for OipRefused<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        reference(STATUS, &oip(STATUS))
    }
}

impl<const STATUS: u16, B: ToSchema> IntoResponses for RefusedOr<STATUS, B> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problems = by_status().remove(&STATUS).unwrap_or_default();
        let documents = content(
            problems
                .iter()
                .map(|problem| (problem.code(), problem.clone())),
        );
        let other = ContentBuilder::new().schema(Some(Ref::from_schema_name(B::name())));
        let response = answer(STATUS, &problems)
            .content(Problem::MEDIA_TYPE, documents)
            .content("application/json", other.build());
        [(STATUS.to_string(), response.into())].into()
    }
}

fn reference(status: u16, name: &str) -> BTreeMap<String, RefOr<Response>> {
    let to = Ref::from_response_name(name);
    [(status.to_string(), RefOr::Ref(to))].into()
}

fn plain(status: u16) -> String {
    format!("Problem{status}")
}

fn oip(status: u16) -> String {
    format!("Oip{status}")
}

/// Adds the answers of these names, and the schemas that they have.
pub(super) fn describe(components: &mut Components, names: &BTreeSet<String>) {
    for (status, problems) in by_status() {
        let documents = content(
            problems
                .iter()
                .map(|problem| (problem.code(), problem.clone())),
        );
        let errors = problems.iter().map(OipError::from);
        let errors = content(errors.map(|error| (error.code(), error)));
        let answers = [
            (
                plain(status),
                answer(status, &problems).content(Problem::MEDIA_TYPE, documents),
            ),
            (
                oip(status),
                answer(status, &problems).content("application/json", errors),
            ),
        ];
        let wanted = answers.into_iter().filter(|(name, _)| names.contains(name));
        let built = wanted.map(|(name, answer)| (name, answer.into()));
        components.responses.extend(built);
    }
    let mut schemas = vec![(Code::name().into_owned(), Code::schema())];
    if names.iter().any(|name| name.starts_with("Problem")) {
        schemas.push((Problem::name().into_owned(), Problem::schema()));
    }
    if names.iter().any(|name| name.starts_with("Oip")) {
        schemas.push((OipError::name().into_owned(), OipError::schema()));
    }
    components.schemas.extend(schemas);
}

/// A body with examples by their codes.
fn content<B: Serialize + ToSchema>(
    examples: impl IntoIterator<Item = (&'static str, B)>,
) -> Content {
    let examples = examples.into_iter().map(|(code, body)| {
        let example = ExampleBuilder::new().value(Some(json!(body)));
        (code, example.build())
    });
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(B::name())))
        .examples_from_iter(examples)
        .build()
}

/// What all answers of a status have in common, without their bodies.
fn answer(status: u16, problems: &[Problem]) -> ResponseBuilder {
    let mut response = ResponseBuilder::new().description(about(status).unwrap_or_default());
    if status == StatusCode::UNAUTHORIZED.as_u16() {
        let bearer = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(["Bearer"]));
        response = response.header("WWW-Authenticate", Header::new(bearer));
    }
    if problems.iter().any(Problem::says_when) {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1));
        response = response.header("Retry-After", Header::new(seconds));
    }
    response
}

/// The codes of problems, as an enumeration.
pub(in crate::http) struct Code;

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let problems = by_status().into_values().flatten();
        let codes: BTreeSet<&str> = problems.map(|problem| problem.code()).collect();
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "What went wrong, for programs: stable, one word each.",
            ))
            .enum_values(Some(codes))
            .into()
    }
}

impl ToSchema for Code {}

/// What all problems of a status have in common.
fn about(status: u16) -> Option<&'static str> {
    Some(match status {
        400 => "The request is not of the documented form.",
        401 => "No API key, or not one in force.",
        403 => "Not allowed by whoever runs the server.",
        404 => "No such route, model, map or test.",
        405 => "Not with this method.",
        406 => "Not in an accepted media type.",
        408 => "The body took too long to arrive.",
        409 => "There is no such map of this picture, or it cannot be changed so.",
        413 => "The body is too large.",
        415 => "Not a picture that is read here, or compressed in a way that is not.",
        421 => "The request names a host that this server does not answer to.",
        422 => "The picture is damaged or has too many pixels, or the model directory is refused.",
        429 => "This client's quota is used up; Retry-After says when there is more.",
        500 => "Our fault.",
        503 => "Not now; Retry-After says when.",
        504 => "The deadline passed.",
        _ => return None,
    })
}

/// Every problem that there is, by status, in the order of [`errors`].
fn by_status() -> BTreeMap<u16, Vec<Problem>> {
    let id = RequestId::example();
    let routing = [
        (StatusCode::NOT_FOUND, "there is nothing here"),
        (StatusCode::METHOD_NOT_ALLOWED, "PATCH is not allowed here"),
    ];
    let routing = routing.map(|(status, detail)| Problem::of_routing(status, detail, &id));
    let errors = errors();
    let mut by_status: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for problem in errors
        .iter()
        .map(|why| Problem::new(why, &id))
        .chain(routing)
    {
        by_status
            .entry(problem.status().as_u16())
            .or_default()
            .push(problem);
    }
    by_status
}

/// One error of every code, as a server might say it. A test compares them with `error.rs`.
fn errors() -> Vec<Error> {
    const SOON: Duration = Duration::from_secs(2);
    vec![
        Error::MalformedRequest(
            "the body is empty; send a picture, for example with curl --data-binary @cat.jpg"
                .into(),
        ),
        Error::InvalidParameter {
            name: "top_k",
            detail: "0 is not between 1 and 1000, the number of classes".into(),
        },
        Error::Unauthorized,
        Error::HostNotAllowed {
            host: "example.org".into(),
        },
        Error::VerifyNotAllowed,
        Error::NoSuchModel {
            name: "vit-h-14".into(),
        },
        Error::NoSuchMap,
        Error::NoSuchJob,
        Error::NotAcceptable {
            available: "image/png, application/json, application/x-npy",
        },
        Error::UploadTooSlow {
            limit: Duration::from_secs(30),
        },
        Error::MapNotKept(
            "single layers and heads are kept on demand: classify the picture again with \
             `attention=heads`"
                .into(),
        ),
        Error::NotForgettable { expires_in_s: 3599 },
        Error::NotVerifiable(
            "the picture of this map is not kept any more; classify it again and test that map",
        ),
        Error::DefaultModel {
            name: "demo".into(),
        },
        Error::BodyTooLarge { limit: 10 << 20 },
        Error::UnsupportedFormat {
            found: "PDF".into(),
        },
        Error::UnsupportedEncoding {
            coding: "br".into(),
        },
        Error::ImageUndecodable {
            format: "JPEG",
            detail: "the file ends in the middle of the picture".into(),
        },
        Error::ImageTooLarge {
            width: 60_000,
            height: 60_000,
            detail: "it has more than 40000000 pixels".into(),
        },
        Error::ModelRefused {
            why: "model.onnx has another digest than model.toml says".into(),
        },
        Error::QuotaExceeded { retry_after: SOON },
        Error::TooManyJobs { retry_after: SOON },
        Error::NotFinite,
        Error::Inference,
        Error::Internal,
        Error::Overloaded { retry_after: SOON },
        Error::Draining,
        Error::NotReady,
        Error::StoreAway { retry_after: SOON },
        Error::DeadlinePassed {
            deadline: Duration::from_secs(10),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text between `before` and the next quotation mark, wherever that is in a source.
    fn quoted<'a>(source: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        let parts = source.split(before).skip(1);
        parts.filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_code_has_an_example() {
        let examples = by_status().into_values().flatten();
        let examples: BTreeSet<&str> = examples.map(|problem| problem.code()).collect();
        let codes: BTreeSet<&str> = quoted(include_str!("../../error.rs"), "=> \"")
            .chain(["not_found", "method_not_allowed"])
            .collect();
        assert!(codes.len() > 25);
        assert_eq!(examples, codes, "errors() has one of every code");
    }

    #[test]
    fn every_status_is_explained() {
        for status in by_status().into_keys() {
            assert!(about(status).is_some(), "{status}");
        }
    }
}
