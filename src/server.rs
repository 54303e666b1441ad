//! Sockets: accepting, header deadlines, a cap on connections, and an orderly end.
//!
//! An accept loop of our own, because `axum::serve` gives hyper no timer (so a client may send its
//! headers for ever) and waits without a deadline when it stops.

mod signals;

use std::{error::Error, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulConnection, GracefulShutdown},
    },
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tower::ServiceExt;

pub use self::signals::{Hangups, Signals, Stop};
use crate::http::Readiness;

/// How long a client may take to send a request's head, or to start the next one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at a time; further ones wait in the kernel's backlog.
const MOST_CONNECTIONS: usize = 2048;

/// Requests at a time on one HTTP/2 connection.
const MOST_STREAMS: u32 = 128;

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    routes: Router,
    connections: GracefulShutdown,
    places: Arc<Semaphore>,
}

impl Server {
    /// Nothing is accepted before [`run`](Self::run).
    pub fn new(listener: TcpListener, routes: Router) -> Self {
        Self {
            listener,
            routes,
            connections: GracefulShutdown::new(),
            places: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        }
    }

    /// Serves until told to stop, and says how.
    ///
    /// After [`Stop::Drain`] the server is not ready any more but serves on for `delay`, so that
    /// load balancers notice before connections are refused. [`Stop::Now`] ends that, too.
    pub async fn run(&self, signals: &mut Signals, readiness: &Readiness, delay: Duration) -> Stop {
        let accepting = self.accept();
        tokio::pin!(accepting);
        let stop = tokio::select! {
            () = &mut accepting => Stop::Now,
            stop = signals.next() => stop,
        };
        readiness.set(false);
        if stop == Stop::Now {
            return stop;
        }
        tracing::info!(?delay, "stopping: not ready any more, still serving");
        tokio::select! {
            () = &mut accepting => Stop::Now,
            () = sleep(delay) => Stop::Drain,
            stop = signals.next() => stop,
        }
    }

    /// Accepts no more and gives what was accepted `limit` to finish; whether it did.
    pub async fn finish(self, limit: Duration) -> bool {
        drop(self.listener);
        tracing::info!(
            ?limit,
            open = self.connections.count(),
            "stopped accepting, finishing"
        );
        let finished = timeout(limit, self.connections.shutdown()).await.is_ok();
        if !finished {
            tracing::warn!("not everything was finished in time");
        }
        finished
    }

    /// Accepts for ever.
    pub async fn accept(&self) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((socket, _)) => {
                    let watcher = self.connections.watcher();
                    let connection = watcher.watch(connection(socket, self.routes.clone()));
                    tokio::spawn(async move {
                        if let Err(why) = connection.await {
                            tracing::debug!(why, "a connection ended early");
                        }
                        drop(place);
                    });
                }
                Err(why) => {
                    tracing::warn!(%why, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// HTTP/1.1 or HTTP/2 on one socket, by what the client speaks first.
fn connection(
    socket: TcpStream,
    routes: Router,
) -> impl GracefulConnection<Error = Box<dyn Error + Send + Sync>> {
    // Answers are small and written whole; waiting to fill a packet would only delay them.
    if let Err(why) = socket.set_nodelay(true) {
        tracing::debug!(%why, "TCP_NODELAY");
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_TIMEOUT)
        .keep_alive_timeout(HEADER_TIMEOUT)
        .max_concurrent_streams(MOST_STREAMS);
    let routes = routes.map_request(|request: Request<Incoming>| request.map(Body::new));
    builder
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(routes))
        .into_owned()
}
