//! The body of a request, read under limits, and the pictures inside it.
//!
//! A picture comes as the raw body, as parts of `multipart/form-data`, or as base64 in JSON. Only
//! the framing is undone here; whether it is a picture is for the decoder to say.

pub(super) mod base64;

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use utoipa::ToSchema;

use super::{AppState, HttpLimits, oip::coding::Coding, openapi::Binary};
use crate::{Error, Result, batch::Deadline, bom, escape::Excerpt, metrics::Metrics};

/// The most pictures that one request may bring.
pub(crate) const MOST_PICTURES: usize = 16;

/// Names that a multipart part with a picture may have.
const PARTS: [&str; 2] = ["image", "file"];

/// The media type of a picture as text.
const JSON: &str = "application/json";

/// Memory for bodies that are being read or worked on, all together. A body that would exceed it
/// is refused unread: waiting would hold a connection for nothing.
#[derive(Clone, Debug)]
pub struct UploadBudget(Arc<Semaphore>);

impl UploadBudget {
    /// Permits count KiB, so that large budgets fit the semaphore.
    const UNIT: u64 = 1024;

    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / Self::UNIT).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Room for the body that these headers announce, or for the longest if they announce none or
    /// a compressed one.
    /// Given back when dropped.
    pub(super) fn admit(
        &self,
        headers: &HeaderMap,
        limits: HttpLimits,
    ) -> Result<OwnedSemaphorePermit> {
        let bytes = announced(headers)
            .filter(|_| !headers.contains_key(header::CONTENT_ENCODING))
            .unwrap_or(limits.max_body)
            .min(limits.max_body);
        let units = u32::try_from(bytes.div_ceil(Self::UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.0)
            .try_acquire_many_owned(units)
            .map_err(|_| Error::Overloaded {
                retry_after: Duration::from_secs(1),
            })
    }
}

/// Reads a body to its end, within the limits on bytes and time.
///
/// # Errors
/// [`Error::BodyTooLarge`], before anything is read if the client announces it;
/// [`Error::UploadTooSlow`]; [`Error::MalformedRequest`] when the connection breaks.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: HttpLimits,
    metrics: &Metrics,
) -> Result<Bytes> {
    if announced(headers).is_some_and(|length| length > limits.max_body) {
        return Err(Error::BodyTooLarge {
            limit: limits.max_body,
        });
    }
    let leaving = metrics.leaving("upload");
    let outcome = timeout(limits.upload_timeout, collect(body, limits.max_body)).await;
    leaving.stayed();
    outcome.unwrap_or(Err(Error::UploadTooSlow {
        limit: limits.upload_timeout,
    }))
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

async fn collect(mut body: Body, limit: u64) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(why) => {
                let why = format_args!("the body broke off: {}", Excerpt(why)).into();
                return Err(Error::MalformedRequest(why));
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(Error::BodyTooLarge { limit });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// The encoded pictures in a body as it came. What takes time is done on a blocking thread.
///
/// # Errors
/// Those of [`pictures`]; [`Error::BodyTooLarge`] for one that unpacks to too much.
pub(super) async fn unframed(
    state: &AppState,
    headers: &HeaderMap,
    body: Bytes,
    coding: Coding,
    deadline: Deadline,
) -> Result<Vec<Bytes>> {
    if coding == Coding::Identity && !is_framed(headers) {
        return pictures(headers, body).await;
    }
    let (headers, limit) = (headers.clone(), state.limits.max_body);
    let work = move || {
        let body = coding.unpack(body, limit)?;
        // All of the body is there, so that nothing is waited for.
        let pictures = pictures(&headers, body).now_or_never();
        pictures.unwrap_or(Err(Error::Internal))
    };
    state.oip.at_desk(deadline, work).await?
}

/// Whether pictures are parts of the body, or text in it.
fn is_framed(headers: &HeaderMap) -> bool {
    let essence = essence(content_type(headers));
    essence.eq_ignore_ascii_case(JSON) || starts_with(essence, "multipart/")
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

/// The encoded pictures in a body: at least one, at most [`MOST_PICTURES`].
///
/// # Errors
/// [`Error::MalformedRequest`] when the framing is broken or holds no picture.
pub(crate) async fn pictures(headers: &HeaderMap, body: Bytes) -> Result<Vec<Bytes>> {
    let content_type = content_type(headers);
    let essence = essence(content_type);
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        return from_multipart(content_type, body).await;
    }
    if body.is_empty() {
        return Err(Error::MalformedRequest(
            "the body is empty; send a picture, for example with curl --data-binary @cat.jpg"
                .into(),
        ));
    }
    if essence.eq_ignore_ascii_case(JSON) {
        return Ok(vec![from_json(&body)?]);
    }
    // Whatever the header says, a picture is a picture; but no picture begins like this.
    if starts_with(essence, "multipart/") && body.starts_with(b"--") {
        let found = Excerpt(essence);
        return Err(Error::MalformedRequest(
            format_args!("a body of type `{found}` is not read; send multipart/form-data").into(),
        ));
    }
    Ok(vec![body])
}

async fn from_multipart(content_type: &str, body: Bytes) -> Result<Vec<Bytes>> {
    let broken = |why: multer::Error| {
        Error::MalformedRequest(format_args!("multipart body: {}", Excerpt(why)).into())
    };
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let whole = futures_of(body);
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut pictures = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default();
        if !PARTS.contains(&name) {
            return Err(Error::MalformedRequest(
                format_args!(
                    "multipart part `{}` is not known; pictures are parts named `image` or `file`",
                    Excerpt(name)
                )
                .into(),
            ));
        }
        if pictures.len() == MOST_PICTURES {
            return Err(Error::MalformedRequest(
                format_args!("more than {MOST_PICTURES} pictures in one request").into(),
            ));
        }
        // RFC 7578, section 4.3: several files of one field come as several parts.
        if let Some(kind) = part.content_type()
            && kind.type_() == "multipart"
        {
            return Err(Error::MalformedRequest(
                format_args!(
                    "multipart part `{name}` is itself of type `{}`; send each picture as a part \
                     of its own, all of them named `image`",
                    Excerpt(kind.essence_str())
                )
                .into(),
            ));
        }
        pictures.push(part.bytes().await.map_err(broken)?);
    }
    if pictures.is_empty() {
        return Err(Error::MalformedRequest(
            "the multipart body has no part named `image`, for example curl -F image=@cat.jpg"
                .into(),
        ));
    }
    Ok(pictures)
}

/// The whole body as the stream that the multipart reader wants.
fn futures_of(body: Bytes) -> http_body_util::BodyDataStream<http_body_util::Full<Bytes>> {
    http_body_util::BodyDataStream::new(http_body_util::Full::new(body))
}

/// Pictures as parts of a form, named `image` or `file`.
#[derive(ToSchema)]
pub(super) struct PictureForm {
    /// Files.
    #[schema(inline, min_items = 1, max_items = 16)]
    #[expect(dead_code, reason = "the reader takes parts as they come")]
    image: Vec<Binary>,
}

/// A picture as text.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PictureJson<'a> {
    /// Base64 or a data: URL of it; with padding or without, the alphabet for URLs or the other one.
    #[schema(value_type = String)]
    #[serde(borrow)]
    image: Cow<'a, str>,
}

fn from_json(body: &[u8]) -> Result<Bytes> {
    let envelope: PictureJson<'_> = serde_json::from_slice(bom::strip(body)).map_err(|why| {
        let why = Excerpt(why);
        Error::MalformedRequest(
            format_args!("JSON body: {why}; expected {{\"image\": \"<base64 or data: URL>\"}}")
                .into(),
        )
    })?;
    base64::decode(&envelope.image)
}

#[cfg(test)]
mod tests;
