//! The body of a request, read under limits, and the pictures inside it.
//!
//! A picture comes as the raw body, as parts of `multipart/form-data`, or as base64 in JSON. Only
//! the framing is undone here; whether it is a picture is for the decoder to say.

mod budget;
mod pace;

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header, request::Parts},
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

pub use self::budget::UploadBudget;
pub(super) use self::{budget::Reservation, pace::Pace};
use super::{AppState, HttpLimits, client_address::Client, openapi::Binary};
use crate::{Error, Result, metrics::Metrics};

/// The most pictures that one request may bring.
pub(crate) const MOST_PICTURES: usize = 16;

/// Names that a multipart part with a picture may have.
const PARTS: [&str; 2] = ["image", "file"];

/// Base64 as clients write it: with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How long a body may keep us waiting for its first bytes.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes a second that a body has to come with after that.
const MIN_BYTES_PER_SECOND: u64 = 4 << 10;

/// A reservation for the body of a request, before it is read.
///
/// # Errors
/// [`Error::Overloaded`] when a body as long as announced would not fit now.
pub(super) fn admit(state: &AppState, parts: &Parts) -> Result<Reservation> {
    let single = state.limits.max_body;
    let announced = announced(&parts.headers).unwrap_or_default().min(single);
    let client = Client::of(&parts.extensions);
    let reservation = state.uploads.open(client, announced, single);
    if reservation.is_err() {
        state.metrics.shed("upload_memory");
    }
    reservation
}

/// Reads a body to its end, within the limits on bytes and time, and takes room for it as it comes;
/// for a compressed one also for what it may become.
///
/// # Errors
/// [`Error::BodyTooLarge`], before anything is read if the client announces it;
/// [`Error::UploadTooSlow`]; [`Error::Overloaded`] when there is no room;
/// [`Error::MalformedRequest`] when the connection breaks.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: HttpLimits,
    metrics: &Metrics,
    reservation: &mut Reservation,
) -> Result<Bytes> {
    if announced(headers).is_some_and(|length| length > limits.max_body) {
        return Err(Error::BodyTooLarge {
            limit: limits.max_body,
        });
    }
    let leaving = metrics.leaving("upload");
    let outcome = collect(body, limits, reservation).await;
    leaving.stayed();
    let whole = match outcome {
        Ok(bytes) if headers.contains_key(header::CONTENT_ENCODING) => {
            reservation.take_up_to(limits.max_body).map(|()| bytes)
        }
        other => other,
    };
    if matches!(whole, Err(Error::Overloaded { .. })) {
        metrics.shed("upload_memory");
    }
    whole
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

async fn collect(
    mut body: Body,
    limits: HttpLimits,
    reservation: &mut Reservation,
) -> Result<Bytes> {
    let began = Instant::now();
    let pace = Pace {
        grace: GRACE,
        bytes_per_second: MIN_BYTES_PER_SECOND,
        limit: limits.upload_timeout,
    };
    let mut bytes = BytesMut::new();
    loop {
        let limit = pace.due(bytes.len() as u64);
        let frame = match timeout_at(began + limit, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Err(why))) => {
                let text = format!("the body broke off: {why}");
                return Err(Error::MalformedRequest(text));
            }
            Err(_) => return Err(Error::UploadTooSlow { limit }),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if (bytes.len() + data.len()) as u64 > limits.max_body {
            let limit = limits.max_body;
            return Err(Error::BodyTooLarge { limit });
        }
        reservation.take(data.len() as u64)?;
        bytes.extend_from_slice(&data);
    }
}

/// The encoded pictures in a body: at least one, at most [`MOST_PICTURES`].
///
/// # Errors
/// [`Error::MalformedRequest`] when the framing is broken or holds no picture.
pub(crate) async fn pictures(headers: &HeaderMap, body: Bytes) -> Result<Vec<Bytes>> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        return from_multipart(content_type, body).await;
    }
    if body.is_empty() {
        return Err(Error::MalformedRequest(
            "the body is empty; send a picture, for example with curl --data-binary @cat.jpg"
                .to_owned(),
        ));
    }
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(vec![from_json(&body)?]);
    }
    Ok(vec![body])
}

async fn from_multipart(content_type: &str, body: Bytes) -> Result<Vec<Bytes>> {
    let broken = |why: multer::Error| Error::MalformedRequest(format!("multipart body: {why}"));
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let whole = futures_of(body);
    let mut parts = multer::Multipart::new(whole, boundary);
    let mut pictures = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default();
        if !PARTS.contains(&name) {
            return Err(Error::MalformedRequest(format!(
                "multipart part `{}` is not known; pictures are parts named `image` or `file`",
                name.escape_debug()
            )));
        }
        if pictures.len() == MOST_PICTURES {
            return Err(Error::MalformedRequest(format!(
                "more than {MOST_PICTURES} pictures in one request"
            )));
        }
        pictures.push(part.bytes().await.map_err(broken)?);
    }
    if pictures.is_empty() {
        return Err(Error::MalformedRequest(
            "the multipart body has no part named `image`, for example curl -F image=@cat.jpg"
                .to_owned(),
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
    /// Base64, with padding or without, or a data: URL of it.
    #[schema(value_type = String)]
    #[serde(borrow)]
    image: Cow<'a, str>,
}

fn from_json(body: &[u8]) -> Result<Bytes> {
    let envelope: PictureJson<'_> = serde_json::from_slice(body).map_err(|why| {
        Error::MalformedRequest(format!(
            "JSON body: {why}; expected {{\"image\": \"<base64 or data: URL>\"}}"
        ))
    })?;
    from_base64(&envelope.image)
}

/// A picture as a string in JSON: base64, or a data: URL of it.
///
/// # Errors
/// [`Error::MalformedRequest`] when it is neither, or empty.
pub(super) fn from_base64(text: &str) -> Result<Bytes> {
    let malformed = |why: &str| {
        Err(Error::MalformedRequest(format!(
            "the picture in the JSON body {why}"
        )))
    };
    let encoded = match text.strip_prefix("data:") {
        None => text,
        Some(rest) => match rest.split_once(";base64,") {
            Some((_, encoded)) => encoded,
            None => return malformed("is a data: URL that is not base64"),
        },
    };
    match BASE64.decode(encoded.trim_ascii()) {
        Ok(bytes) if bytes.is_empty() => malformed("is empty"),
        Ok(bytes) => Ok(bytes.into()),
        Err(why) => malformed(&format!("is not base64: {why}")),
    }
}

#[cfg(test)]
mod tests;
