//! `GET /`: the page, embedded in the binary with everything it needs.
//!
//! It is a client like any other: it speaks to `/classify` and `/attention/{id}` and knows nothing
//! that they do not say. These files are the same for everyone and need no API key.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::{attention::matches_etag, openapi::OPERATION};

/// Nothing from elsewhere, nothing inline, no frames around it. `blob:` is a picture that was picked
/// or a map that was fetched with a key; `data:` is the icon.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A part of the page by its file's name.
macro_rules! part {
    ($kind:expr, $name:literal) => {
        (
            concat!("/page/", $name),
            $kind,
            include_bytes!(concat!("page/", $name)),
        )
    };
}

/// The route, media type and bytes of a file.
type Part = (&'static str, &'static str, &'static [u8]);

static PAGE: Part = ("/", HTML, include_bytes!("page/index.html"));

static DOCS: Part = ("/docs", HTML, include_bytes!("page/docs.html"));

/// What [`DOCS`] consists of besides.
static DOCS_PARTS: [Part; 2] = [part!(CSS, "docs.css"), part!(JAVASCRIPT, "docs.js")];

/// What [`PAGE`] consists of besides.
static PAGE_PARTS: [Part; 13] = [
    part!(CSS, "page.css"),
    part!(JAVASCRIPT, "page.js"),
    part!(JAVASCRIPT, "chart.js"),
    part!(JAVASCRIPT, "client.js"),
    part!(JAVASCRIPT, "field.js"),
    part!(JAVASCRIPT, "lamp.js"),
    part!(JAVASCRIPT, "painting.js"),
    part!(JAVASCRIPT, "samples.js"),
    part!(JAVASCRIPT, "stage.js"),
    part!(JAVASCRIPT, "stepper.js"),
    part!(JAVASCRIPT, "telling.js"),
    part!(JAVASCRIPT, "verify.js"),
    part!(JAVASCRIPT, "words.js"),
];

/// Sample pictures and, last, their listing: chosen by the build script.
static SAMPLES: &[Part] = &include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// The page, its parts and the sample pictures.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S> {
    let page = OpenApiRouter::default().routes(routes!(page).with_state(File::new(&PAGE)));
    with_files(page, PAGE_PARTS.iter().chain(SAMPLES))
}

/// The page that shows the document of its listener.
pub(super) fn docs_routes<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S> {
    let docs = OpenApiRouter::default().routes(routes!(docs).with_state(File::new(&DOCS)));
    with_files(docs, &DOCS_PARTS)
}

fn with_files<S: Clone + Send + Sync + 'static>(
    router: OpenApiRouter<S>,
    parts: impl IntoIterator<Item = &'static Part>,
) -> OpenApiRouter<S> {
    parts.into_iter().fold(router, |router, part| {
        let file = File::new(part);
        let answer = async move |headers: HeaderMap| file.answer(&headers);
        router.route(part.0, get(answer))
    })
}

/// The page to try it on.
#[utoipa::path(
    get, path = "/", operation_id = "page", tag = OPERATION,
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        (status = 304, description = "What If-None-Match names is still right."),
    ),
)]
async fn page(State(file): State<File>, headers: HeaderMap) -> Response {
    file.answer(&headers)
}

/// The document as a page.
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = OPERATION,
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        (status = 304, description = "What If-None-Match names is still right."),
    ),
)]
async fn docs(State(file): State<File>, headers: HeaderMap) -> Response {
    file.answer(&headers)
}

#[derive(Clone)]
struct File {
    kind: &'static str,
    bytes: &'static [u8],
    etag: String,
}

impl File {
    fn new(&(_, kind, bytes): &'static Part) -> Self {
        let digest = Sha256::digest(bytes);
        let hex: String = digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            kind,
            bytes,
            etag: format!("\"{hex}\""),
        }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let headers: [(HeaderName, &str); 4] = [
            (header::ETAG, &self.etag),
            // A new version of the program is a new page at once.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        if matches_etag(request, &self.etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        (headers, [kind], self.bytes).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything but the samples.
    fn files() -> impl Iterator<Item = &'static Part> {
        [&PAGE, &DOCS]
            .into_iter()
            .chain(&DOCS_PARTS)
            .chain(&PAGE_PARTS)
    }

    /// The text files.
    fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
        files()
            .filter(|(_, kind, _)| kind.starts_with("text/"))
            .map(|&(route, _, bytes)| (route, str::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for (route, text) in texts() {
            for elsewhere in ["://", "\"//", "'//", "(//", "@import"] {
                assert!(!text.contains(elsewhere), "{route}: {elsewhere}");
            }
        }
    }

    #[test]
    fn whatever_the_files_refer_to_is_served() {
        let routes: Vec<&str> = files().chain(SAMPLES).map(|(route, ..)| *route).collect();
        let mut referred = 0;
        for (route, text) in texts() {
            for part in text.split('"').filter(|part| part.len() < 60) {
                let target = match part.strip_prefix("./") {
                    Some("") => "/".to_owned(),
                    Some(module) => format!("/page/{module}"),
                    None if part.starts_with("page/") || part.starts_with("samples/") => {
                        format!("/{part}")
                    }
                    None => continue,
                };
                assert!(
                    routes.contains(&target.as_str()),
                    "{route} refers to {target}"
                );
                referred += 1;
            }
        }
        assert!(
            referred >= files().count(),
            "only {referred} references were found"
        );
    }

    /// Behind a proxy that puts a path before ours, what begins with `/` leads elsewhere.
    #[test]
    fn nothing_is_asked_for_from_the_root() {
        for (route, text) in texts() {
            for quotation in ['"', '\'', '`'] {
                for part in text.split(quotation).skip(1) {
                    let mut start = part.chars();
                    let is_rooted = start.next() == Some('/')
                        && start.next().is_some_and(|c| c.is_ascii_alphabetic())
                        && !part.contains(char::is_whitespace);
                    assert!(!is_rooted, "{route}: {part}");
                }
            }
        }
    }

    #[test]
    fn the_policy_is_obeyed_by_the_page() {
        let (_, page) = texts().next().unwrap();
        for inline in ["<style", "style=", "onclick=", "<script>", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    #[test]
    fn the_samples_are_small_and_listed() {
        let [pictures @ .., (_, _, listing)] = SAMPLES else {
            panic!("there is no listing");
        };
        let bytes: usize = pictures.iter().map(|(.., bytes)| bytes.len()).sum();
        assert!(!pictures.is_empty() && bytes < 400_000, "{bytes}");
        let listed: Vec<serde_json::Value> = serde_json::from_slice(listing).unwrap();
        let listed = listed.iter().map(|sample| sample["file"].as_str().unwrap());
        let served = pictures
            .iter()
            .map(|(route, ..)| &route["/samples/".len()..]);
        assert!(listed.eq(served));
    }
}
