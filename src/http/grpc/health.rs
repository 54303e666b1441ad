//! `grpc.health.v1.Health`: what load balancers and Kubernetes ask. No key is needed.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tonic::Status;

use super::{answer, client_address, messages::MessageReader, small, unary};
use crate::{
    Error, Result,
    http::{AppState, Problem, RequestId},
    oip::proto::SERVICE,
    readiness::Readiness,
};

/// The service's own name, which may be asked about as well.
const HEALTH: &str = "grpc.health.v1.Health";

/// Clients that watch at a time. Each holds a connection for as long as it likes.
const MAX_WATCHERS: usize = 64;

#[derive(Clone, PartialEq, Eq, Message)]
struct HealthCheckRequest {
    /// Which service; the whole server, if empty.
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

pub(super) fn routes() -> Router<AppState> {
    let watchers = Arc::<AtomicUsize>::default();
    let watch = move |state: State<AppState>, request: Request| watch(state, request, watchers);
    Router::new()
        .route("/grpc.health.v1.Health/Check", post(check))
        .route("/grpc.health.v1.Health/Watch", post(watch))
}

fn is_known(service: &str) -> bool {
    ["", SERVICE, HEALTH].contains(&service)
}

fn health(is_ready: bool) -> HealthCheckResponse {
    let status = match is_ready {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

async fn check(State(state): State<AppState>, request: Request) -> Response {
    let answer = |asked: HealthCheckRequest| match is_known(&asked.service) {
        true => Ok(health(state.readiness.get())),
        false => Err(Error::NoSuchModel {
            name: crate::error::Detail::quoting(&asked.service),
        }),
    };
    unary(&state, None, request, answer).await
}

/// The health now, and whenever it changes. A server that drains says so and ends the call, for no
/// change comes after it.
async fn watch(
    State(state): State<AppState>,
    request: Request,
    watchers: Arc<AtomicUsize>,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = async {
        let mut messages = MessageReader::new(&parts.headers, body)?;
        let address = client_address::address(&parts.extensions);
        let asked = small::<HealthCheckRequest>(&state, None, address, &mut messages).await?;
        asked.ok_or_else(|| Error::MalformedRequest("the call has no message".into()))
    };
    let watching = asked
        .await
        .and_then(|asked| Ok((asked, Watcher::new(watchers)?)));
    match watching {
        Ok((asked, watcher)) => {
            let known = is_known(&asked.service);
            let frames = watched(state.readiness.clone(), known, watcher);
            answer::response(Body::new(StreamBody::new(frames)))
        }
        Err(error) => Problem::new(&error, &RequestId::given(&parts)).into_response(),
    }
}

type Frames = Pin<Box<dyn Stream<Item = std::result::Result<Frame<Bytes>, Infallible>> + Send>>;

fn watched(readiness: Readiness, is_known: bool, watcher: Watcher) -> Frames {
    let message = |health: &HealthCheckResponse| Ok(Frame::data(answer::frame(health)));
    let ended = || Ok(Frame::trailers(answer::trailers(&Status::ok(""))));
    if !is_known {
        let unknown = HealthCheckResponse {
            status: ServingStatus::ServiceUnknown.into(),
        };
        return Box::pin(stream::iter([message(&unknown), ended()]));
    }
    let now = readiness.get();
    let first = stream::iter([message(&health(now))]);
    let rest = stream::once(async move {
        let _watcher = watcher;
        if now {
            readiness.becomes(false).await;
        }
        stream::iter(match now {
            true => vec![message(&health(false)), ended()],
            false => vec![ended()],
        })
    });
    Box::pin(first.chain(rest.flatten()))
}

/// Counts a client that watches while it lives.
struct Watcher(Arc<AtomicUsize>);

impl Watcher {
    /// # Errors
    /// [`Error::Overloaded`] when there are as many as may be.
    fn new(count: Arc<AtomicUsize>) -> Result<Self> {
        let watcher = Self(count);
        if watcher.0.fetch_add(1, Ordering::Relaxed) < MAX_WATCHERS {
            return Ok(watcher);
        }
        Err(Error::Overloaded {
            retry_after: std::time::Duration::from_secs(1),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statuses that are sent, and whether trailers come last.
    async fn sent(frames: Frames) -> (Vec<i32>, bool) {
        let frames: Vec<_> = frames.collect().await;
        let mut statuses = Vec::new();
        let mut trailers = false;
        for frame in frames {
            match frame.unwrap().into_data() {
                Ok(data) => {
                    let read = HealthCheckResponse::decode(&data[5..]).unwrap();
                    statuses.push(read.status);
                }
                Err(_) => trailers = true,
            }
        }
        (statuses, trailers)
    }

    fn watcher() -> Watcher {
        Watcher::new(Arc::default()).unwrap()
    }

    #[tokio::test]
    async fn a_watcher_hears_of_the_drain_and_is_let_go() {
        let readiness = Readiness::default();
        readiness.set(true);
        let frames = watched(readiness.clone(), true, watcher());
        let listening = tokio::spawn(sent(frames));
        tokio::task::yield_now().await;
        readiness.set(false);
        assert_eq!(listening.await.unwrap(), (vec![1, 2], true));
        let late = watched(readiness.clone(), true, watcher());
        assert_eq!(sent(late).await, (vec![2], true));
        let unknown = watched(readiness, false, watcher());
        assert_eq!(sent(unknown).await, (vec![3], true));
    }

    #[test]
    fn watchers_are_bounded_and_make_room_when_they_leave() {
        let count = Arc::<AtomicUsize>::default();
        let mut all: Vec<Watcher> = (0..MAX_WATCHERS)
            .map(|_| Watcher::new(Arc::clone(&count)).unwrap())
            .collect();
        assert!(Watcher::new(Arc::clone(&count)).is_err());
        all.pop();
        assert!(Watcher::new(count).is_ok());
    }
}
