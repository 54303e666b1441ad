//! `GET /openapi.json` and `GET /docs`: the interface in the words of OpenAPI 3.1, and as a page.
//!
//! `openapi/document.json` has the operations. What the program knows itself is filled in here: its
//! version, and every status with every code, from the table that a test compares with the errors
//! and their statuses. `tests/clients/openapi.py` lets schemathesis compare the rest with a running
//! server, and a test here looks for every route.

use std::sync::Arc;

use axum::{
    Router,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};

const DOCUMENT: &str = include_str!("openapi/document.json");

/// Every status of a problem with its codes.
const PROBLEMS: &[(u16, &str, &[&str])] = &[
    (
        400,
        "The request is not of the documented form.",
        &["malformed_request", "invalid_parameter"],
    ),
    (401, "No API key, or not one in force.", &["unauthorized"]),
    (
        403,
        "Not allowed by whoever runs the server.",
        &["verify_not_allowed"],
    ),
    (
        404,
        "No such route, model, map or test.",
        &[
            "not_found",
            "no_such_model",
            "map_not_found",
            "verify_not_found",
        ],
    ),
    (405, "Not with this method.", &["method_not_allowed"]),
    (406, "Not in an accepted media type.", &["not_acceptable"]),
    (
        408,
        "The body took too long to arrive.",
        &["upload_too_slow"],
    ),
    (
        409,
        "There is no such map of this picture, or it cannot be changed so.",
        &[
            "map_not_kept",
            "map_not_forgettable",
            "not_verifiable",
            "default_model",
        ],
    ),
    (413, "The body is too large.", &["body_too_large"]),
    (
        415,
        "Not a picture that is read here.",
        &["unsupported_format"],
    ),
    (
        422,
        "The picture is damaged or has too many pixels, or the model directory is refused.",
        &["image_undecodable", "image_too_large", "model_refused"],
    ),
    (
        429,
        "This client's quota is used up; Retry-After says when there is more.",
        &["quota_exceeded", "too_many_jobs"],
    ),
    (
        500,
        "Our fault.",
        &["inference_failed", "not_finite", "internal"],
    ),
    (
        503,
        "Not now; Retry-After says when.",
        &["overloaded", "draining", "not_ready", "map_store_away"],
    ),
    (504, "The deadline passed.", &["deadline_passed"]),
];

/// The document and its page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let document: Arc<str> = document().to_string().into();
    let show = async move || -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (kind, document.to_string()).into_response()
    };
    Router::new().route("/openapi.json", get(show))
}

/// The whole document.
fn document() -> Value {
    // A test reads it; were it not JSON, the answer would be an empty document.
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    document["info"]["version"] = json!(crate::VERSION);
    let codes = PROBLEMS.iter().flat_map(|(_, _, codes)| codes.iter());
    document["components"]["schemas"]["Code"] = json!({"enum": codes.collect::<Vec<_>>()});
    document["components"]["responses"] = PROBLEMS
        .iter()
        .flat_map(|&(status, about, codes)| {
            [
                (format!("Problem{status}"), problem(status, about, codes)),
                (format!("Oip{status}"), oip_error(status, about, codes)),
            ]
        })
        .collect::<Map<String, Value>>()
        .into();
    document
}

fn problem(status: u16, about: &str, codes: &[&str]) -> Value {
    let example = |code: &&str| {
        let value = json!({
            "type": format!("urn:patchlight:problem:{code}"), "title": about, "status": status,
            "detail": about, "code": code, "request_id": "6dae637986c46af1",
        });
        ((*code).to_owned(), json!({"value": value}))
    };
    response(
        status,
        about,
        json!({"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": codes.iter().map(example).collect::<Map<String, Value>>(),
        }}),
    )
}

fn oip_error(status: u16, about: &str, codes: &[&str]) -> Value {
    let example = |code: &&str| {
        let value = json!({"error": about, "code": code, "request_id": "6dae637986c46af1"});
        ((*code).to_owned(), json!({"value": value}))
    };
    response(
        status,
        about,
        json!({"application/json": {
            "schema": {"$ref": "#/components/schemas/OipError"},
            "examples": codes.iter().map(example).collect::<Map<String, Value>>(),
        }}),
    )
}

fn response(status: u16, about: &str, content: Value) -> Value {
    let mut response = json!({"description": about, "content": content});
    let seconds = json!({"schema": {"type": "integer", "minimum": 1}});
    match status {
        401 => {
            response["headers"] = json!({"WWW-Authenticate": {"schema": {"const": "Bearer"}}});
        }
        429 | 503 => response["headers"] = json!({"Retry-After": seconds}),
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The text between `before` and the next quotation mark, wherever that is in a source.
    fn quoted<'a>(source: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        let parts = source.split(before).skip(1);
        parts.filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_code_is_in_the_document() {
        let listed = PROBLEMS.iter().flat_map(|(_, _, codes)| codes.iter());
        let listed: BTreeSet<&str> = listed.copied().collect();
        let errors = include_str!("../error.rs");
        let codes: BTreeSet<&str> = quoted(errors, "=> \"")
            .chain(["not_found", "method_not_allowed"])
            .collect();
        assert!(codes.len() > 15);
        let missing: Vec<_> = codes.difference(&listed).collect();
        assert!(missing.is_empty(), "add them to PROBLEMS: {missing:?}");
        let document = document();
        for (status, _, _) in PROBLEMS {
            for form in ["Problem", "Oip"] {
                assert!(document["components"]["responses"][format!("{form}{status}")].is_object());
            }
        }
    }

    #[test]
    fn every_route_is_in_the_document() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let mut seen = 0;
        for source in [
            include_str!("../http.rs"),
            include_str!("oip.rs"),
            include_str!("openapi.rs"),
        ] {
            let compact: String = source.split_whitespace().collect();
            for route in quoted(&compact, ".route(\"").filter(|route| route.starts_with('/')) {
                let route = route.trim_end_matches('/');
                assert!(paths.contains_key(route), "{route} is not described");
                seen += 1;
            }
        }
        assert!(seen > 8, "only {seen} routes were found");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references: BTreeSet<&str> = quoted(&text, "\"$ref\":\"#").collect();
        assert!(references.len() > 20);
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let document = document();
        let operations = document["paths"].as_object().unwrap().values();
        let names: Vec<&str> = operations
            .flat_map(|methods| methods.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
