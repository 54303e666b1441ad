//! Sockets: accept loop, timeouts, a connection limit, TLS, and graceful shutdown.
//!
//! An accept loop of our own, because `axum::serve` gives hyper no timer (so a client may send its
//! headers for ever) and waits without a deadline when it stops.

mod answers;
pub(crate) mod connection;
mod connection_limit;
mod requests;
mod signals;
mod stopwatch;
mod timeout_stream;
mod tls;

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{
    connection::{ConnectionInfo, Shared},
    connection_limit::{ConnectionLimit, ConnectionPermit},
};
pub use self::{
    signals::{ReloadSignals, Signals, Stop},
    tls::Tls,
};
use crate::{http::ClientAddress, readiness::Readiness};

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that was accepted last has to send its request when the server stops.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Shared,
    tls: Option<Tls>,
    /// Once cancelled, connections take no more requests.
    closing: CancellationToken,
    /// Those of a server that is gone do not either.
    _closing: DropGuard,
    connections: TaskTracker,
    connection_limit: ConnectionLimit,
}

impl Server {
    /// Nothing is accepted before [`run`](Self::run). A connection may rest for `keep_alive`
    /// between requests.
    pub fn new(
        listener: TcpListener,
        routes: Router,
        tls: Option<Tls>,
        keep_alive: Duration,
    ) -> Self {
        let closing = CancellationToken::new();
        Self {
            listener,
            shared: Shared::new(routes, keep_alive),
            tls,
            _closing: closing.clone().drop_guard(),
            closing,
            connections: TaskTracker::new(),
            connection_limit: ConnectionLimit::new(),
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

    /// Stops accepting and waits at most `limit` for open connections to finish; whether they did.
    ///
    /// Connections that the kernel had already accepted are served, too, and the last ones get time
    /// to send their request before idle connections are closed.
    pub async fn drain(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        // A listener that is closed resets what it has not accepted.
        while let Ok(Ok((socket, client))) = timeout(Duration::ZERO, self.listener.accept()).await {
            let Ok(Some(permit)) = timeout(Duration::ZERO, self.connection_limit.acquire()).await
            else {
                break;
            };
            self.spawn(socket, client, permit);
        }
        drop(self.listener);
        let open = self.connections.len();
        tracing::info!(?limit, open, "stopped accepting, finishing");
        if open > 0 {
            sleep(FIRST_REQUEST_GRACE.min(limit)).await;
        }
        let left = end.saturating_duration_since(Instant::now());
        self.closing.cancel();
        self.connections.close();
        let finished = timeout(left, self.connections.wait()).await.is_ok();
        if !finished {
            tracing::warn!("not everything was finished in time");
        }
        finished
    }

    /// Accepts for ever.
    pub async fn accept(&self) {
        while let Some(permit) = self.connection_limit.acquire().await {
            match self.listener.accept().await {
                Ok((socket, client)) => self.spawn(socket, client, permit),
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, socket: TcpStream, client: SocketAddr, permit: ConnectionPermit) {
        let info = ConnectionInfo {
            near_limit: permit.near_limit,
            open: permit.taken,
            client: Some(ClientAddress(client.ip())),
        };
        let serving = connection::serve(
            socket,
            self.tls.clone(),
            self.shared.clone(),
            info,
            self.closing.clone(),
        );
        self.connections.spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(error, "a connection ended early");
            }
            drop(permit);
        });
    }
}
