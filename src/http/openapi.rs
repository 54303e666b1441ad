//! `GET /openapi.json`: what a listener serves, in the words of OpenAPI 3.1.
//!
//! Nothing of it is written down apart: operations stand beside their handlers and are registered
//! with them (`utoipa_axum::routes!`), schemas are derived from the structures that are answered,
//! and [`problems`] makes the answers of errors by making the errors. So each listener describes
//! what it serves and nothing else.

mod problems;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use axum::{
    Router,
    extract::State,
    http::{Method, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use patchlight_imaging::decode::Format;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        self, Info, InfoBuilder, KnownFormat, LicenseBuilder, ObjectBuilder, PathItem, RefOr,
        Schema, SchemaFormat, SecurityRequirement, Tag, Type,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::problems::{OipRefused, Refused, RefusedOr};
use super::oip_errors;

/// The tag of classification and its maps.
pub(super) const CLASSIFICATION: &str = "pictures";

/// The tag of everything below `/v2`.
pub(super) const OIP: &str = "Open Inference Protocol";

/// The tag of what probes, scrapers and curious people ask for.
pub(super) const OPERATION: &str = "operation";

/// The tag of what only the admin listener serves.
pub(super) const ADMINISTRATION: &str = "administration";

const TAGS: [(&str, &str); 4] = [
    (
        CLASSIFICATION,
        "Labels for images, and which patches the model looked at.",
    ),
    (
        OIP,
        "Version 2 of the protocol, for clients of KServe and Triton. Errors have its own form.",
    ),
    (
        ADMINISTRATION,
        "Which models are served. These routes exist on --admin-listen only.",
    ),
    (OPERATION, "Probes, metrics and descriptions."),
];

/// The security scheme's name.
const KEY_SCHEME: &str = "key";

/// A serialized document.
#[derive(Clone)]
struct OpenApiDocument(Bytes);

/// Adds `GET /openapi.json`, which describes all of `routes` and itself.
pub(super) fn described<S>(routes: OpenApiRouter<S>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let (own, itself) = OpenApiRouter::default()
        .routes(routes!(show))
        .split_for_parts();
    let (routes, mut document) = routes.split_for_parts();
    document.merge(itself);
    let document = complete(document);
    // A document of strings, numbers and maps with names always has a JSON form.
    let text = document.to_json().unwrap_or_default();
    routes.merge(own.with_state(OpenApiDocument(text.into())))
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = OPERATION,
    responses((status = 200, description = "OpenAPI 3.1.", content(("application/json")))),
)]
async fn show(State(OpenApiDocument(text)): State<OpenApiDocument>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, text).into_response()
}

/// Says that all of `routes` want a key where the server runs with keys, and what they answer
/// without.
pub(super) fn keyed<S>(routes: OpenApiRouter<S>) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    secured(routes, &[SecurityRequirement::default(), key_requirement()])
}

/// Says that all of `routes` always want a key.
pub(super) fn always_keyed<S>(routes: OpenApiRouter<S>) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    secured(routes, &[key_requirement()])
}

fn key_requirement() -> SecurityRequirement {
    SecurityRequirement::new(KEY_SCHEME, [""; 0])
}

fn secured<S>(mut routes: OpenApiRouter<S>, security: &[SecurityRequirement]) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    for (path, item) in &mut routes.get_openapi_mut().paths.paths {
        let unknown = match oip_errors::is_used_by(&Method::POST, path) {
            true => OipRefused::<401>::responses(),
            false => Refused::<401>::responses(),
        };
        for operation in operations(item) {
            operation.security = Some(security.to_vec());
            operation.responses.responses.extend(unknown.clone());
        }
    }
    routes
}

/// Says that a single image may also be sent as its own media type, whichever is read.
pub(super) fn with_image_bodies<S>(mut routes: OpenApiRouter<S>) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let items = routes.get_openapi_mut().paths.paths.values_mut();
    for operation in items.flat_map(operations) {
        let Some(RefOr::T(body)) = &mut operation.request_body else {
            continue;
        };
        let Some(any) = body.content.get("application/octet-stream").cloned() else {
            continue;
        };
        let types = Format::ALL.map(Format::media_type);
        let contents = types.map(|media_type| (media_type.to_owned(), any.clone()));
        body.content.extend(contents);
    }
    routes
}

/// Everything that is not said by single operations.
fn complete(mut document: openapi::OpenApi) -> openapi::OpenApi {
    document.info = info();
    let mut tags = BTreeSet::new();
    let mut answers = BTreeSet::new();
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            tags.extend(operation.tags.iter().flatten().cloned());
            let responses = operation.responses.responses.values();
            answers.extend(responses.filter_map(|response| match response {
                RefOr::Ref(to) => to.ref_location.rsplit('/').next().map(str::to_owned),
                RefOr::T(_) => None,
            }));
        }
    }
    let used = TAGS.iter().filter(|(name, _)| tags.contains(*name));
    document.tags = Some(used.map(|&(name, about)| tag(name, about)).collect());
    let components = document.components.get_or_insert_default();
    problems::describe(components, &answers);
    components.add_security_scheme(
        KEY_SCHEME,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A key of --api-key-file."))
                .build(),
        ),
    );
    document
}

fn info() -> Info {
    let license = LicenseBuilder::new()
        .name(env!("CARGO_PKG_LICENSE"))
        .identifier(Some(env!("CARGO_PKG_LICENSE")))
        .build();
    InfoBuilder::new()
        .title(env!("CARGO_PKG_NAME"))
        .version(crate::VERSION)
        .description(Some(
            "Labels for an image, and which patches the model looked at. Errors are problem \
             documents with a stable code; below /v2 they have the form of the Open Inference \
             Protocol.",
        ))
        .license(Some(license))
        .build()
}

fn tag(name: &str, about: &str) -> Tag {
    TagBuilder::new()
        .name(name)
        .description(Some(about))
        .build()
}

/// The operations of a path, of the methods that are used here.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        ..
    } = item;
    [get, put, post, delete].into_iter().flatten()
}

/// A body that is not JSON.
pub(super) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .into()
    }
}

impl ToSchema for Binary {}
