//! One connection: how long it may take, how much it may send, and what it speaks.

use std::{error::Error, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tower::ServiceExt;

use super::{
    paced::{Pace, Paced, Requests},
    tls::Tls,
};

/// How long a client may take to send a request's head, and to shake hands.
const HEAD: Duration = Duration::from_secs(10);

/// The same for those who come when places are short: enough for a probe.
const HEAD_IN_A_CROWD: Duration = Duration::from_secs(1);

/// How long a kept connection may rest. Longer than the minute for which the usual proxies keep
/// theirs, so that none sends a request into a connection that is just being closed.
const REST: Duration = Duration::from_secs(75);

/// How long a client may take nothing of its answer.
const WRITE: Duration = Duration::from_secs(30);

/// Every so often an HTTP/2 client has to show that it is there, within the same time.
const PING: Duration = Duration::from_secs(20);

/// Bytes of an HTTP/1 request's head. A longer one is answered with 431.
const MOST_HEAD_BYTES: usize = 64 << 10;

/// Bytes of an HTTP/2 request's fields, unpacked.
const MOST_FIELD_BYTES: u32 = 32 << 10;

/// Requests at a time on one HTTP/2 connection.
const MOST_STREAMS: u32 = 128;

/// Streams that a client may open and reset before it is sent away (CVE-2023-44487).
const MOST_RESETS: usize = 32;

/// Bytes that an HTTP/2 client may send before we read them: on one stream, and on all of a
/// connection together.
const WINDOW: (u32, u32) = (256 << 10, 512 << 10);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Serves a socket to its end; `crowded` when few places are left.
///
/// # Errors
/// For the log: what ended it early.
pub(super) async fn serve(
    socket: TcpStream,
    tls: Option<Tls>,
    routes: Router,
    watcher: Watcher,
    crowded: bool,
) -> Outcome {
    // Answers are small and written whole; waiting to fill a packet would only delay them.
    socket.set_nodelay(true)?;
    let head = if crowded { HEAD_IN_A_CROWD } else { HEAD };
    match tls {
        None => speak(socket, head, routes, watcher, crowded).await,
        Some(tls) => {
            let socket = timeout(head, tls.acceptor().accept(socket)).await??;
            speak(socket, head, routes, watcher, crowded).await
        }
    }
}

/// HTTP/1.1 or HTTP/2, by what the client speaks first.
async fn speak<S>(
    socket: S,
    head: Duration,
    routes: Router,
    watcher: Watcher,
    crowded: bool,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Arc::new(Requests::default());
    let pace = Pace { head, write: WRITE };
    let socket = TokioIo::new(Paced::new(socket, pace, Arc::clone(&requests)));
    let service = service_fn(move |request: Request<Incoming>| {
        let running = requests.begin();
        let answer = routes.clone().oneshot(request.map(Body::new));
        async move {
            let answer = answer.await;
            drop(running);
            answer
        }
    });
    let builder = builder(crowded);
    let connection = builder.serve_connection(socket, service).into_owned();
    watcher.watch(connection).await
}

fn builder(crowded: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REST)
        .max_buf_size(MOST_HEAD_BYTES)
        .keep_alive(!crowded);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MOST_STREAMS)
        .max_pending_accept_reset_streams(MOST_RESETS)
        .max_local_error_reset_streams(MOST_RESETS)
        .max_header_list_size(MOST_FIELD_BYTES)
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1);
    builder
}
