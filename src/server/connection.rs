//! Serves one connection: timeouts, size limits, HTTP/1.1 or HTTP/2.

use std::{error::Error, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    pin,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    answers::{Streams, UnreadAnswers, supervise},
    requests::{RequestBody, RequestCount},
    timeout_stream::{IoTimeouts, TimeoutStream},
    tls::Tls,
};
use crate::http::ClientAddress;

/// How long a client may take to send a request's headers, and for the TLS handshake.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The same near the connection limit: enough for a probe. With HTTP/2 also how long their
/// connection may rest.
const HEADER_TIMEOUT_NEAR_LIMIT: Duration = Duration::from_secs(1);

/// How long a client may read nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval of HTTP/2 pings, and how long their answer may take. It earns no more than that: a
/// connection without requests ends however it answers.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// Bytes of an HTTP/1 request's head. A longer one is answered with 431.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Bytes of an HTTP/2 request's fields, unpacked.
const MAX_HEADER_LIST_BYTES: u32 = 32 << 10;

/// Requests at a time on one HTTP/2 connection, where there are few connections.
const MAX_CONCURRENT_STREAMS: u32 = 128;

/// And where there are many.
const FEWEST_STREAMS: u32 = 4;

/// Requests that are shared among the connections as long as each has more than the fewest.
const STREAMS_IN_ALL: usize = 2048;

/// Streams that a client may open and reset before its connection is closed (CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 32;

/// Bytes that an HTTP/2 client may send before we read them: on one stream, and on all of a
/// connection together.
const HTTP2_WINDOW_SIZES: (u32, u32) = (256 << 10, 512 << 10);

type ConnectionResult = Result<(), Box<dyn Error + Send + Sync>>;

/// What the connections of a server have in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) routes: Router,
    pub(super) unread: UnreadAnswers,
    /// How long a connection may rest between requests.
    pub(super) keep_alive: Duration,
}

/// How a connection finds the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionInfo {
    /// Whether few places are left.
    pub(crate) near_limit: bool,
    /// How many connections there are, this one among them.
    pub(crate) open: usize,
    /// Where it comes from.
    pub(crate) client: Option<ClientAddress>,
}

impl Shared {
    /// For the routes of a server whose connections may rest for so long.
    pub(crate) fn new(routes: Router, keep_alive: Duration) -> Self {
        Self {
            routes,
            unread: UnreadAnswers::new(),
            keep_alive,
        }
    }

    /// Bytes of answers that clients have not taken.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn unread_bytes(&self) -> u64 {
        self.unread.bytes()
    }
}

/// Serves a socket to its end. Once `closing` is cancelled it takes no more requests.
///
/// # Errors
/// For the log: what ended it early.
pub(super) async fn serve(
    socket: TcpStream,
    tls: Option<Tls>,
    shared: Shared,
    info: ConnectionInfo,
    closing: CancellationToken,
) -> ConnectionResult {
    // Answers are small and written whole; waiting to fill a packet would only delay them.
    socket.set_nodelay(true)?;
    match tls {
        None => serve_http(socket, shared, info, closing).await,
        Some(tls) => {
            let socket = timeout(info.header(), tls.acceptor().accept(socket)).await??;
            serve_http(socket, shared, info, closing).await
        }
    }
}

/// Serves HTTP/1.1 or HTTP/2, whichever the client starts with.
///
/// # Errors
/// For the log: what ended it early.
pub(crate) async fn serve_http<S>(
    socket: S,
    shared: Shared,
    info: ConnectionInfo,
    closing: CancellationToken,
) -> ConnectionResult
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let outcome = supervise(serve_requests(socket, shared, info, closing), WRITE_TIMEOUT).await;
    outcome.unwrap_or_else(|| Err("the client does not read the answer".into()))
}

async fn serve_requests<S>(
    socket: S,
    shared: Shared,
    info: ConnectionInfo,
    closing: CancellationToken,
) -> ConnectionResult
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Arc::new(RequestCount::new());
    let timeouts = IoTimeouts {
        header: info.header(),
        write: WRITE_TIMEOUT,
    };
    let socket = TokioIo::new(TimeoutStream::new(socket, timeouts, Arc::clone(&requests)));
    let started = Arc::clone(&requests);
    let Shared {
        routes,
        unread,
        keep_alive,
    } = shared;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let running = started.begin(request.version());
        if let Some(client) = info.client {
            request.extensions_mut().insert(client);
        }
        let held = Arc::clone(&running);
        let request = request.map(|body| Body::new(RequestBody::new(body, held)));
        let answer = routes.clone().oneshot(request);
        let unread = unread.clone();
        async move {
            let answer = answer.await;
            running.answered();
            answer.map(|answer| answer.map(|body| unread.answer(body, running)))
        }
    });
    let rest = match info.near_limit {
        true => HEADER_TIMEOUT_NEAR_LIMIT,
        false => keep_alive,
    };
    let builder = builder(info, keep_alive);
    let connection = builder.serve_connection(socket, service);
    pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => return outcome,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
        () = requests.rested(info.header(), rest) => {}
    }
    // With HTTP/2 the client is told which requests will not be answered; those that have crossed
    // the message are.
    connection.as_mut().graceful_shutdown();
    let ignored = async {
        sleep(info.header()).await;
        requests.rested(info.header(), info.header()).await;
    };
    tokio::select! {
        outcome = connection => outcome,
        () = ignored => Err("it rests for too long".into()),
    }
}

impl ConnectionInfo {
    /// How long a request's head may take.
    fn header(self) -> Duration {
        match self.near_limit {
            true => HEADER_TIMEOUT_NEAR_LIMIT,
            false => HEADER_TIMEOUT,
        }
    }

    /// How many requests at a time an HTTP/2 connection may have.
    fn streams(self) -> u32 {
        let share = STREAMS_IN_ALL / self.open.max(1);
        let share = u32::try_from(share).unwrap_or(MAX_CONCURRENT_STREAMS);
        match self.near_limit {
            true => FEWEST_STREAMS,
            false => share.clamp(FEWEST_STREAMS, MAX_CONCURRENT_STREAMS),
        }
    }
}

fn builder(info: ConnectionInfo, keep_alive: Duration) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams {
        limit: WRITE_TIMEOUT,
    });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(keep_alive.max(HEADER_TIMEOUT))
        .max_buf_size(MAX_HEADER_BYTES)
        // Whether the client is still there is for the socket to find out.
        .half_close(true)
        .keep_alive(!info.near_limit);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_INTERVAL)
        .max_concurrent_streams(info.streams())
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(HTTP2_WINDOW_SIZES.0)
        .initial_connection_window_size(HTTP2_WINDOW_SIZES.1);
    builder
}

#[cfg(test)]
mod tests;
