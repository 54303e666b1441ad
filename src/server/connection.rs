//! One connection: how long it may take, how much it may send, and what it speaks.

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
    sync::watch,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use super::{
    answers::{Streams, UnreadAnswers, supervise},
    paced::{Pace, Paced},
    requests::{RequestBody, Requests},
    tls::Tls,
};
use crate::http::ClientAddress;

/// How long a client may take to send a request's head, and to shake hands.
const HEAD: Duration = Duration::from_secs(10);

/// The same for those who come when places are short: enough for a probe. With HTTP/2 also how long
/// their connection may rest.
const HEAD_IN_A_CROWD: Duration = Duration::from_secs(1);

/// How long a client may take nothing of its answer.
const WRITE: Duration = Duration::from_secs(30);

/// Every so often an HTTP/2 client has to show that it is there, within the same time. It earns no
/// more than that: a connection without requests ends however it answers.
const PING: Duration = Duration::from_secs(20);

/// Bytes of an HTTP/1 request's head. A longer one is answered with 431.
const MOST_HEAD_BYTES: usize = 64 << 10;

/// Bytes of an HTTP/2 request's fields, unpacked.
const MOST_FIELD_BYTES: u32 = 32 << 10;

/// Requests at a time on one HTTP/2 connection, where there are few connections.
const MOST_STREAMS: u32 = 128;

/// And where there are many.
const FEWEST_STREAMS: u32 = 4;

/// Requests that are shared among the connections as long as each has more than the fewest.
const STREAMS_IN_ALL: usize = 2048;

/// Streams that a client may open and reset before it is sent away (CVE-2023-44487).
const MOST_RESETS: usize = 32;

/// Bytes that an HTTP/2 client may send before we read them: on one stream, and on all of a
/// connection together.
const WINDOW: (u32, u32) = (256 << 10, 512 << 10);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

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
    pub(crate) crowded: bool,
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

/// Serves a socket to its end. Once `closing` is true it takes no more requests.
///
/// # Errors
/// For the log: what ended it early.
pub(super) async fn serve(
    socket: TcpStream,
    tls: Option<Tls>,
    shared: Shared,
    info: ConnectionInfo,
    closing: watch::Receiver<bool>,
) -> Outcome {
    // Answers are small and written whole; waiting to fill a packet would only delay them.
    socket.set_nodelay(true)?;
    match tls {
        None => speak(socket, shared, info, closing).await,
        Some(tls) => {
            let socket = timeout(info.head(), tls.acceptor().accept(socket)).await??;
            speak(socket, shared, info, closing).await
        }
    }
}

/// HTTP/1.1 or HTTP/2, by what the client speaks first.
///
/// # Errors
/// For the log: what ended it early.
pub(crate) async fn speak<S>(
    socket: S,
    shared: Shared,
    info: ConnectionInfo,
    closing: watch::Receiver<bool>,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let outcome = supervise(serve_http(socket, shared, info, closing), WRITE).await;
    outcome.unwrap_or_else(|| Err("nobody reads the answer".into()))
}

async fn serve_http<S>(
    socket: S,
    shared: Shared,
    info: ConnectionInfo,
    mut closing: watch::Receiver<bool>,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Arc::new(Requests::new());
    let pace = Pace {
        head: info.head(),
        write: WRITE,
    };
    let socket = TokioIo::new(Paced::new(socket, pace, Arc::clone(&requests)));
    let begun = Arc::clone(&requests);
    let Shared {
        routes,
        unread,
        keep_alive,
    } = shared;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let running = begun.begin(request.version());
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
    let rest = match info.crowded {
        true => HEAD_IN_A_CROWD,
        false => keep_alive,
    };
    let builder = builder(info, keep_alive);
    let connection = builder.serve_connection(socket, service);
    pin!(connection);
    let closed = async {
        // A server that is gone takes no more requests either.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    tokio::select! {
        outcome = connection.as_mut() => return outcome,
        () = closed => {
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
        () = requests.rested(info.head(), rest) => {}
    }
    // With HTTP/2 the client is told which requests will not be answered; those that have crossed
    // the message are.
    connection.as_mut().graceful_shutdown();
    let ignored = async {
        sleep(info.head()).await;
        requests.rested(info.head(), info.head()).await;
    };
    tokio::select! {
        outcome = connection => outcome,
        () = ignored => Err("it rests for too long".into()),
    }
}

impl ConnectionInfo {
    /// How long a request's head may take.
    fn head(self) -> Duration {
        match self.crowded {
            true => HEAD_IN_A_CROWD,
            false => HEAD,
        }
    }

    /// How many requests at a time an HTTP/2 connection may have.
    fn streams(self) -> u32 {
        let share = STREAMS_IN_ALL / self.open.max(1);
        let share = u32::try_from(share).unwrap_or(MOST_STREAMS);
        match self.crowded {
            true => FEWEST_STREAMS,
            false => share.clamp(FEWEST_STREAMS, MOST_STREAMS),
        }
    }
}

fn builder(info: ConnectionInfo, keep_alive: Duration) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams { limit: WRITE });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(keep_alive.max(HEAD))
        .max_buf_size(MOST_HEAD_BYTES)
        // Whether the client is still there is for the socket to find out.
        .half_close(true)
        .keep_alive(!info.crowded);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(info.streams())
        .max_pending_accept_reset_streams(MOST_RESETS)
        .max_local_error_reset_streams(MOST_RESETS)
        .max_header_list_size(MOST_FIELD_BYTES)
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1);
    builder
}

#[cfg(test)]
mod tests;
