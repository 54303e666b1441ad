//! Reads on for a moment when a body is refused.
//!
//! A client or proxy that is still sending when the server closes sees its connection reset, often
//! before it has read why. So what a handler leaves of a body, for whatever reason, is read on and
//! thrown away for a little while; then hyper closes the connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};

/// Bytes that are thrown away at the most.
const AT_MOST: usize = 1 << 20;

/// And for how long.
const FOR: Duration = Duration::from_millis(200);

/// Middleware for every route.
pub(super) async fn over_refused_bodies(request: Request) -> Request {
    let (parts, body) = request.into_parts();
    let invited = !expects_continue(&parts.headers);
    let body = Lingering {
        body: Some(body),
        invited,
    };
    Request::from_parts(parts, Body::new(body))
}

/// A body that is read on when dropped before its end.
struct Lingering {
    /// Empty only while being dropped, and after an error.
    body: Option<Body>,
    /// Whether the client sends without being asked. One that waits for `100 Continue` sends
    /// nothing, and reading would ask it to.
    invited: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.invited = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        let Some(mut rest) = rest.filter(|_| self.invited) else {
            return;
        };
        // Without a runtime there is no connection either.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(timeout(FOR, async move {
            let mut seen = 0;
            while let Some(Ok(frame)) = rest.frame().await {
                seen += frame.data_ref().map_or(0, Bytes::len);
                if seen > AT_MOST {
                    break;
                }
            }
        }));
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
