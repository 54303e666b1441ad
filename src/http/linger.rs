//! Reads on for a while when a body is refused.
//!
//! Most clients read nothing before they have sent everything (Python's `http.client`, wget), and a
//! client or proxy that is still sending when the server closes sees its connection reset, often
//! before it has read why. So what a handler leaves of a body, for whatever reason, is read on and
//! thrown away for as long as it comes at a decent pace, within bounds; then hyper closes the
//! connection. Where more is left than will be thrown away, the answer says `Connection: close`, so
//! that nobody sends the next request into a connection that is about to end.

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
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Version, header},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::upload::Pace;

/// How many times the longest body is thrown away at the most: what is refused for its length is
/// longer than that.
const TIMES_MAX_BODY: u64 = 8;

/// How fast it has to come, and for how long it may.
const PACE: Pace = Pace {
    grace: Duration::from_secs(2),
    bytes_per_second: 256 << 10,
    limit: Duration::from_secs(10),
};

/// Middleware for every route, with the limit on bodies.
pub(super) async fn over_refused_bodies(
    State(max_body): State<u64>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let invited = !expects_continue(&parts.headers);
    // HTTP/2 ends a stream and not its connection.
    let alone = parts.version < Version::HTTP_2;
    let too_much = Arc::<AtomicBool>::default();
    let body = Lingering {
        body: Some(body),
        invited,
        at_most: max_body.saturating_mul(TIMES_MAX_BODY),
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
    /// Bytes that are thrown away.
    at_most: u64,
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
        let Some(rest) = rest else { return };
        let left = rest.size_hint().exact();
        if !self.invited || left.is_none_or(|left| left > self.at_most) {
            self.too_much.store(true, Ordering::Relaxed);
        }
        if !self.invited {
            return;
        }
        // Without a runtime there is no connection either.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(read_on(rest, self.at_most));
    }
}

async fn read_on(mut body: Body, at_most: u64) {
    let began = Instant::now();
    let mut seen = 0;
    while seen <= at_most {
        match timeout_at(began + PACE.due(seen), body.frame()).await {
            Ok(Some(Ok(frame))) => seen += frame.data_ref().map_or(0, Bytes::len) as u64,
            // The end, an error, or too slow.
            _ => return,
        }
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
    use futures_util::{StreamExt, stream};
    use tokio::sync::mpsc;
    use tower::ServiceExt;

    use super::*;

    const MAX_BODY: u64 = 1 << 20;
    const AT_MOST: usize = (MAX_BODY * TIMES_MAX_BODY) as usize;

    /// What the answer to a body that nobody reads says of its connection.
    async fn said(body: Body, version: Version) -> Option<HeaderValue> {
        let refuse = post(async || StatusCode::SERVICE_UNAVAILABLE);
        let routes = Router::new()
            .route("/", refuse)
            .layer(middleware::from_fn_with_state(
                MAX_BODY,
                over_refused_bodies,
            ));
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
        let endless = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        assert_eq!(said(endless, Version::HTTP_11).await.unwrap(), "close");
    }

    /// How many bytes of a refused body are read that comes in pieces of `bytes` every `pause`, and
    /// how long that takes.
    async fn read(bytes: usize, pause: Duration) -> (usize, Duration) {
        let (read, mut seen) = mpsc::unbounded_channel();
        let pieces = stream::repeat(()).then(move |()| {
            let read = read.clone();
            async move {
                tokio::time::sleep(pause).await;
                // The receiver waits for the last sender.
                let _ = read.send(bytes);
                Ok::<_, axum::Error>(vec![0; bytes])
            }
        });
        let began = Instant::now();
        said(Body::from_stream(pieces), Version::HTTP_11).await;
        let mut sum = 0;
        while let Some(bytes) = seen.recv().await {
            sum += bytes;
        }
        (sum, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_is_read_as_long_as_it_comes_fast_enough() {
        // Fast: up to the bound on bytes.
        let (bytes, took) = read(1 << 20, Duration::from_millis(100)).await;
        assert_eq!((bytes, took.as_millis()), (AT_MOST + (1 << 20), 900));
        // At a decent pace: up to the bound on time.
        let (bytes, took) = read(512 << 10, Duration::from_millis(1001)).await;
        assert_eq!((bytes, took), (9 * (512 << 10), PACE.limit));
        // Slowly, and not at all.
        let (_, took) = read(1 << 10, Duration::from_millis(100)).await;
        assert_eq!(took.as_secs(), PACE.grace.as_secs());
        let (bytes, took) = read(1, Duration::from_secs(60)).await;
        assert_eq!((bytes, took), (0, PACE.grace));
    }
}
