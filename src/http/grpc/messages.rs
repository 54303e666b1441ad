//! The messages of a call as they come: a byte that says whether it is compressed, four with its
//! length, and so many bytes (gRPC over HTTP/2, "Length-Prefixed-Message").

use std::time::Duration;

use axum::{
    Error as BodyError,
    body::{Body, BodyDataStream},
    http::HeaderMap,
};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use patchlight_escape::Excerpt;
use tokio::time::{Instant, timeout_at};

use crate::{Error, Result, http::content_encoding::ContentEncoding};

/// How the messages of a call are compressed that are.
const ENCODING: &str = "grpc-encoding";

/// Bytes before each message.
const HEAD: usize = 5;

/// Reads messages one after the other.
#[derive(Debug)]
pub(super) struct MessageReader {
    body: BodyDataStream,
    /// What has come and is not read.
    ahead: Bytes,
    encoding: ContentEncoding,
}

/// What is known of a message before it comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct MessageHead {
    /// Bytes that follow.
    pub(super) length: u64,
    encoding: ContentEncoding,
}

impl MessageReader {
    /// For the body of a call with these headers.
    ///
    /// # Errors
    /// [`Error::UnsupportedEncoding`].
    pub(super) fn new(headers: &HeaderMap, body: Body) -> Result<Self> {
        Ok(Self {
            body: body.into_data_stream(),
            ahead: Bytes::new(),
            encoding: ContentEncoding::of_messages(headers.get(ENCODING))?,
        })
    }

    /// What precedes the next message; `None` at the end of the call. It has to come within `rest`.
    ///
    /// # Errors
    /// [`Error::UploadTooSlow`]; [`Error::MalformedRequest`] when the call breaks off.
    pub(super) async fn head(&mut self, rest: Duration) -> Result<Option<MessageHead>> {
        let end = Instant::now() + rest;
        let mut head = BytesMut::with_capacity(HEAD);
        while head.len() < HEAD {
            if self.ahead.is_empty() {
                match timeout_at(end, self.body.next()).await {
                    Err(_) => return Err(Error::UploadTooSlow { limit: rest }),
                    Ok(Some(Ok(data))) => self.ahead = data,
                    Ok(Some(Err(error))) => return broke_off(&error),
                    Ok(None) if head.is_empty() => return Ok(None),
                    Ok(None) => return broke_off(&"it ends within the head of a message"),
                }
                continue;
            }
            let missing = (HEAD - head.len()).min(self.ahead.len());
            head.extend_from_slice(&self.ahead.split_to(missing));
        }
        let encoding = match head.get_u8() {
            0 => ContentEncoding::Identity,
            1 if self.encoding != ContentEncoding::Identity => self.encoding,
            _ => {
                return Err(Error::MalformedRequest(
                    "a message is compressed, and grpc-encoding does not say how".into(),
                ));
            }
        };
        let length = u64::from(head.get_u32());
        Ok(Some(MessageHead { length, encoding }))
    }

    /// The bytes of the message behind a head.
    pub(super) fn content(
        &mut self,
        head: MessageHead,
    ) -> impl Stream<Item = std::result::Result<Bytes, ContentError>> {
        stream::unfold((self, head.length), |(reader, left)| async move {
            if left == 0 {
                return None;
            }
            while reader.ahead.is_empty() {
                match reader.body.next().await {
                    Some(Ok(data)) => reader.ahead = data,
                    Some(Err(error)) => return Some((Err(ContentError::Body(error)), (reader, 0))),
                    None => return Some((Err(ContentError::End), (reader, 0))),
                }
            }
            let there = reader.ahead.len() as u64;
            // No longer than what is there.
            let data = reader.ahead.split_to(left.min(there) as usize);
            let left = left - data.len() as u64;
            Some((Ok(data), (reader, left)))
        })
    }
}

impl MessageHead {
    /// Whether the message becomes longer than it comes.
    pub(super) fn is_compressed(self) -> bool {
        self.encoding != ContentEncoding::Identity
    }

    /// The message as it was before it was compressed, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`], [`Error::MalformedRequest`].
    pub(super) fn unpack(self, message: Bytes, limit: u64) -> Result<Bytes> {
        self.encoding.decompress(message, limit)
    }
}

/// Why a message does not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    /// What the connection says.
    #[error("{0}")]
    Body(BodyError),
    /// The client has sent no more.
    #[error("it ends within a message")]
    End,
}

fn broke_off<T>(error: &dyn std::fmt::Display) -> Result<T> {
    let error = format_args!("the call broke off: {}", Excerpt(error)).into();
    Err(Error::MalformedRequest(error))
}

#[cfg(test)]
mod tests;
