use std::str::FromStr;

use serde_json::Value;

use super::*;
use crate::{
    classify::MapRetention,
    explain::{Colormap, Smooth, View},
    http::{AppState, admin},
};

fn finished<S>(routes: OpenApiRouter<S>) -> Value
where
    S: Clone + Send + Sync + 'static,
{
    let with_itself = routes.into_openapi().merge_from(itself());
    serde_json::to_value(complete(with_itself)).unwrap()
}

fn itself() -> openapi::OpenApi {
    OpenApiRouter::<OpenApiDocument>::default()
        .routes(routes!(show))
        .into_openapi()
}

/// Those of the service and of the admin listener.
fn documents() -> [Value; 2] {
    let service: OpenApiRouter<AppState> = crate::http::routes(false, |keyed| keyed);
    [finished(service), finished(admin::routes(|keyed| keyed))]
}

/// Method and path of every operation.
fn described(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

/// As docs/api.md, docs/oip.md and docs/operations.md list them.
#[test]
fn every_route_is_in_the_document() {
    let mut service: BTreeSet<String> = [
        "POST /classify",
        "POST /",
        "POST /models/{name}",
        "GET /attention/{id}",
        "DELETE /attention/{id}",
        "POST /attention/{id}/verify",
        "GET /attention/{id}/verify",
        "DELETE /attention/{id}/verify",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /docs",
        "GET /",
        "GET /v2",
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "GET /v2/models/stats",
        "POST /v2/repository/index",
    ]
    .map(str::to_owned)
    .into();
    for version in ["", "/versions/{version}"] {
        for (method, rest) in [
            ("GET", ""),
            ("GET", "/ready"),
            ("GET", "/config"),
            ("GET", "/stats"),
            ("POST", "/infer"),
        ] {
            service.insert(format!("{method} /v2/models/{{model}}{version}{rest}"));
        }
    }
    let admin: BTreeSet<String> = [
        "GET /admin/models",
        "POST /admin/models",
        "GET /admin/models/{name}",
        "PUT /admin/models/{name}",
        "DELETE /admin/models/{name}",
        "POST /admin/models/{name}/reload",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /docs",
    ]
    .map(str::to_owned)
    .into();
    let [of_service, of_admin] = documents();
    assert_eq!(described(&of_service), service);
    assert_eq!(described(&of_admin), admin);
}

/// "GET, POST and DELETE /a" → the three operations; further words are skipped.
fn listed(text: &str) -> BTreeSet<String> {
    let mut methods = Vec::new();
    let mut listed = BTreeSet::new();
    for word in text.split([' ', ',', '(', ')']) {
        match word {
            "GET" | "PUT" | "POST" | "DELETE" => methods.push(word),
            path if path.starts_with('/') => {
                listed.extend(methods.drain(..).map(|method| format!("{method} {path}")));
            }
            _ => {}
        }
    }
    listed
}

/// Whoever asks for a route that does not exist is told those that do.
#[test]
fn the_routes_that_a_404_lists_are_those_of_the_document() {
    let [service, of_admin] = documents().map(|document| described(&document));
    // The protocol's own routes are left to its documents.
    let is_listed = |operation: &String| !operation.contains(" /v2/");
    let service: BTreeSet<String> = service.into_iter().filter(is_listed).collect();
    assert_eq!(listed(crate::http::ROUTES), service);
    assert_eq!(listed(admin::ROUTES), of_admin);
}

/// A route that is registered without its description would be missing in silence.
#[test]
fn routes_are_registered_with_their_descriptions() {
    let alias = "/v2/";
    for source in [
        include_str!("../../http.rs"),
        include_str!("../admin.rs"),
        include_str!("../oip.rs"),
        include_str!("../oip/target.rs"),
    ] {
        let compact: String = source.split_whitespace().collect();
        let plain = compact.split(".route(\"").skip(1);
        for route in plain.filter_map(|rest| rest.split('"').next()) {
            assert_eq!(route, alias, "use routes!");
        }
    }
}

#[test]
fn an_image_may_be_sent_as_its_own_media_type() {
    let [service, _] = documents();
    let bodies = &service["paths"]["/classify"]["post"]["requestBody"]["content"];
    let bodies: BTreeSet<&str> = bodies
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "multipart/form-data",
        "application/json",
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/gif",
        "image/bmp",
        "image/tiff",
        "application/octet-stream",
    ];
    assert_eq!(bodies, expected.into());
}

#[test]
fn every_reference_leads_somewhere() {
    for document in documents() {
        let text = document.to_string();
        let references = text.split("\"$ref\":\"#").skip(1);
        let references: BTreeSet<&str> = references
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(references.len() > 8);
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own_and_say_what_they_do() {
    for document in documents() {
        let paths = document["paths"].as_object().unwrap().values();
        let operations: Vec<&Value> = paths
            .flat_map(|methods| methods.as_object().unwrap().values())
            .collect();
        let names: BTreeSet<&str> = operations
            .iter()
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), operations.len());
        for operation in operations {
            assert!(operation["summary"].is_string(), "{operation}");
            assert!(operation["tags"][0].is_string(), "{operation}");
        }
    }
}

/// Clients generated from the document would send these.
#[test]
fn every_listed_choice_is_taken() {
    fn taken<T: PartialSchema + FromStr>() {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let words = schema["enum"].as_array().unwrap();
        assert!(words.len() > 1);
        for word in words {
            assert!(word.as_str().unwrap().parse::<T>().is_ok(), "{word}");
        }
    }
    taken::<MapRetention>();
    taken::<View>();
    taken::<Smooth>();
    taken::<Colormap>();
}
