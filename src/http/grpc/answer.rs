//! The answers of calls: messages with their lengths, then the status in trailers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use tonic::Status;

/// What of the messages of a call may be compressed; answers are not.
const ACCEPTED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderValue::from_static("identity,gzip,deflate"),
);

/// A message behind its length, as it is sent.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    // Answers have 32 MiB at the most.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // There is room for all of it.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// The answer of a call with one message.
pub(super) fn unary(message: &impl Message) -> Response {
    framed(frame(message))
}

/// The same, of a message that is framed already.
pub(super) fn framed(frame: Bytes) -> Response {
    response(Body::new(UnaryBody {
        message: Some(frame),
        is_ended: false,
    }))
}

/// An answer whose messages come with its body.
pub(super) fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(ACCEPTED.0, ACCEPTED.1);
    response
}

/// The trailers of a call that ends with this status.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Its text is encoded for headers, so that nothing in it is refused.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// One message and the status that all went well. It says how long the message is, so that what
/// the client does not take of it counts as unread.
struct UnaryBody {
    message: Option<Bytes>,
    is_ended: bool,
}

impl HttpBody for UnaryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if self.is_ended {
            return Poll::Ready(None);
        }
        self.is_ended = true;
        let trailers = trailers(&Status::ok(""));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }

    fn size_hint(&self) -> SizeHint {
        // Not exact, since trailers follow: with a length, nothing would.
        let mut hint = SizeHint::new();
        hint.set_lower(self.message.as_ref().map_or(0, Bytes::len) as u64);
        hint
    }
}
