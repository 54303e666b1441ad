//! Reads on for a moment when a body is refused.
//!
//! A client or proxy that is still sending when the server closes sees its connection reset, often
//! before it has read why. So what a handler leaves of a body, for whatever reason, is read on and
//! thrown away for a little while; then hyper closes the connection. Where more is left than will be
//! thrown away, the answer says `Connection: close`, so that nobody sends the next request into a
//! connection that is about to end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Version, header},
    middleware::Next,
    response::Response,
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
pub(super) async fn over_refused_bodies(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let invited = !expects_continue(&parts.headers);
    // HTTP/2 ends a stream and not its connection.
    let alone = parts.version < Version::HTTP_2;
    let too_much = Arc::<AtomicBool>::default();
    let body = Lingering {
        body: Some(body),
        invited,
        too_much: Arc::clone(&too_much),
    };
    let request = Request::from_parts(parts, Body::new(body));
    let mut response = next.run(request).await;
    if alone && too_much.load(Ordering::Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A body that is read on when dropped before its end.
struct Lingering {
    /// Empty only while being dropped, and after an error.
    body: Option<Body>,
    /// Whether the client sends without being asked. One that waits for `100 Continue` sends
    /// nothing, and reading would ask it to.
    invited: bool,
    /// Set when more may be left than is thrown away.
    too_much: Arc<AtomicBool>,
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
        let Some(mut rest) = rest else { return };
        let left = rest.size_hint().exact();
        if !self.invited || left.is_none_or(|left| left > AT_MOST as u64) {
            self.too_much.store(true, Ordering::Relaxed);
        }
        if !self.invited {
            return;
        }
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

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware, routing::post};
    use tower::ServiceExt;

    use super::*;

    /// What the answer to a body that nobody reads says of its connection.
    async fn said(body: Body, version: Version) -> Option<HeaderValue> {
        let refuse = post(async || StatusCode::SERVICE_UNAVAILABLE);
        let routes = Router::new()
            .route("/", refuse)
            .layer(middleware::from_fn(over_refused_bodies));
        let request = Request::post("/").version(version).body(body).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        response.headers().get(header::CONNECTION).cloned()
    }

    #[tokio::test]
    async fn more_than_is_thrown_away_closes_the_connection_and_says_so() {
        let whole = |length: usize| Body::from(vec![0; length]);
        let large = said(whole(AT_MOST + 1), Version::HTTP_11).await;
        assert_eq!(large.unwrap(), "close");
        assert!(said(whole(AT_MOST), Version::HTTP_11).await.is_none());
        assert!(said(whole(0), Version::HTTP_11).await.is_none());
        // One stream of many.
        let many = said(whole(AT_MOST + 1), Version::HTTP_2).await;
        assert!(many.is_none());
        // Nobody knows how long this one is.
        let endless =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());
        assert_eq!(said(endless, Version::HTTP_11).await.unwrap(), "close");
    }
}
