//! The images in the body of a request.
//!
//! An image comes as the raw body, as parts of `multipart/form-data`, or as base64 in JSON. Only
//! the framing is undone here; whether it is an image is for the decoder to say.

pub(super) mod base64;

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::FutureExt;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{AppState, content_encoding::ContentEncoding, openapi::Binary};
use crate::{
    Error, Result,
    batch::Deadline,
    bom,
    service::{Admitted, MAX_IMAGES},
};
use patchlight_escape::Excerpt;

/// Names that a multipart part with an image may have.
const PARTS: [&str; 2] = ["image", "file"];

/// The media type of an image as text.
const JSON: &str = "application/json";

/// What `Content-Length` announces.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Whether a body may become longer than it comes.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_ENCODING)
}

/// An image as a request brings it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SentImage {
    /// Encoded.
    Bytes(Bytes),
    /// Where it is to be fetched from.
    Url(String),
}

/// The encoded images of a request, those that are only named fetched.
///
/// # Errors
/// Those of [`ImageFetcher::fetch`](crate::image_fetch::ImageFetcher::fetch).
pub(super) async fn fetched(
    state: &AppState,
    admitted: &mut Admitted,
    images: Vec<SentImage>,
) -> Result<Vec<Bytes>> {
    let mut encoded = Vec::with_capacity(images.len());
    for image in images {
        encoded.push(match image {
            SentImage::Bytes(bytes) => bytes,
            SentImage::Url(url) => {
                let left = admitted.deadline().left();
                let mut hold = |bytes| admitted.hold(bytes);
                state.image_fetcher.fetch(&url, left, &mut hold).await?
            }
        });
    }
    Ok(encoded)
}

/// The images in a body as it came. What takes time is done on a blocking thread.
///
/// # Errors
/// Those of [`images`]; [`Error::BodyTooLarge`] for one that unpacks to too much.
pub(super) async fn unframed(
    state: &AppState,
    headers: &HeaderMap,
    body: Bytes,
    encoding: ContentEncoding,
    deadline: Deadline,
) -> Result<Vec<SentImage>> {
    if encoding == ContentEncoding::Identity && !is_framed(headers) {
        return read_images(headers, body).await;
    }
    let (headers, limit) = (headers.clone(), state.service.limits.max_body);
    let work = move || {
        let body = encoding.decompress(body, limit)?;
        // All of the body is there, so that nothing is waited for.
        let images = read_images(&headers, body).now_or_never();
        images.unwrap_or(Err(Error::Internal))
    };
    state.oip.run_blocking(deadline, work).await?
}

/// Whether images are parts of the body, or text in it.
fn is_framed(headers: &HeaderMap) -> bool {
    is_json(headers) || starts_with(essence(content_type(headers)), "multipart/")
}

/// Whether the body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    essence(content_type(headers)).eq_ignore_ascii_case(JSON)
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// A media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn starts_with(text: &str, word: &str) -> bool {
    let start = text.as_bytes().get(..word.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

/// The images in a body: at least one, at most [`MAX_IMAGES`].
///
/// # Errors
/// [`Error::MalformedRequest`] when the framing is broken or holds no image.
pub(crate) async fn read_images(headers: &HeaderMap, body: Bytes) -> Result<Vec<SentImage>> {
    let content_type = content_type(headers);
    let essence = essence(content_type);
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        let images = from_multipart(content_type, body).await?;
        return Ok(images.into_iter().map(SentImage::Bytes).collect());
    }
    if body.is_empty() {
        return Err(Error::MalformedRequest(
            "the body is empty; send an image, for example with curl --data-binary @cat.jpg".into(),
        ));
    }
    if essence.eq_ignore_ascii_case(JSON) {
        return Ok(vec![from_json(&body)?]);
    }
    // Whatever the header says, an image is an image; but no image begins like this.
    if starts_with(essence, "multipart/") && body.starts_with(b"--") {
        let found = Excerpt(essence);
        return Err(Error::MalformedRequest(
            format_args!("a body of type `{found}` is not read; send multipart/form-data").into(),
        ));
    }
    Ok(vec![SentImage::Bytes(body)])
}

async fn from_multipart(content_type: &str, body: Bytes) -> Result<Vec<Bytes>> {
    let broken = |error: multer::Error| {
        Error::MalformedRequest(format_args!("multipart body: {}", Excerpt(error)).into())
    };
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let whole = futures_of(body);
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut images = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default();
        if !PARTS.contains(&name) {
            return Err(Error::MalformedRequest(
                format_args!(
                    "multipart part `{}` is not known; images are parts named `image` or `file`",
                    Excerpt(name)
                )
                .into(),
            ));
        }
        if images.len() == MAX_IMAGES {
            return Err(Error::MalformedRequest(
                format_args!("more than {MAX_IMAGES} images in one request").into(),
            ));
        }
        // RFC 7578, section 4.3: several files of one field come as several parts.
        if let Some(kind) = part.content_type()
            && kind.type_() == "multipart"
        {
            return Err(Error::MalformedRequest(
                format_args!(
                    "multipart part `{name}` is itself of type `{}`; send each image as a part \
                     of its own, all of them named `image`",
                    Excerpt(kind.essence_str())
                )
                .into(),
            ));
        }
        images.push(part.bytes().await.map_err(broken)?);
    }
    if images.is_empty() {
        return Err(Error::MalformedRequest(
            "the multipart body has no part named `image`, for example curl -F image=@cat.jpg"
                .into(),
        ));
    }
    Ok(images)
}

/// The whole body as the stream that the multipart reader wants.
fn futures_of(body: Bytes) -> http_body_util::BodyDataStream<http_body_util::Full<Bytes>> {
    http_body_util::BodyDataStream::new(http_body_util::Full::new(body))
}

/// Images as parts of a form, named `image` or `file`.
#[derive(ToSchema)]
pub(super) struct ImageForm {
    /// Files.
    #[schema(inline, min_items = 1, max_items = 16)]
    #[expect(dead_code, reason = "the reader takes parts as they come")]
    image: Vec<Binary>,
}

/// An image as text, or where it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageJson<'a> {
    /// Base64 or a data: URL of it; with padding or without, the alphabet for URLs or the other
    /// one.
    #[schema(value_type = Option<String>)]
    #[serde(borrow, default)]
    image: Option<Cow<'a, str>>,
    /// Instead of that: where the image is, on a host that the operator allows (`--fetch-from`).
    #[schema(value_type = Option<String>)]
    #[serde(borrow, default)]
    url: Option<Cow<'a, str>>,
}

const EXPECTED_JSON: &str =
    "expected {\"image\": \"<base64 or data: URL>\"} or {\"url\": \"https://…\"}";

fn from_json(body: &[u8]) -> Result<SentImage> {
    let envelope: ImageJson<'_> = serde_json::from_slice(bom::strip(body)).map_err(|error| {
        let error = Excerpt(error);
        Error::MalformedRequest(format_args!("JSON body: {error}; {EXPECTED_JSON}").into())
    })?;
    match (envelope.image, envelope.url) {
        (Some(image), None) => Ok(SentImage::Bytes(base64::decode(&image)?)),
        (None, Some(url)) => Ok(SentImage::Url(url.into_owned())),
        _ => Err(Error::MalformedRequest(
            format_args!("JSON body: one of `image` and `url` is needed; {EXPECTED_JSON}").into(),
        )),
    }
}

#[cfg(test)]
mod tests;
