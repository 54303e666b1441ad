//! Sockets: accepting, deadlines, a cap on connections, TLS, and an orderly end.
//!
//! An accept loop of our own, because `axum::serve` gives hyper no timer (so a client may send its
//! headers for ever) and waits without a deadline when it stops.

mod connection;
mod paced;
mod places;
mod signals;
mod tls;

use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use self::places::{Place, Places};
pub use self::{
    signals::{Hangups, Signals, Stop},
    tls::Tls,
};
use crate::readiness::Readiness;

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that was accepted last has to bring its request when the server stops.
const LAST_CALL: Duration = Duration::from_millis(500);

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    routes: Router,
    tls: Option<Tls>,
    connections: GracefulShutdown,
    places: Places,
}

impl Server {
    /// Nothing is accepted before [`run`](Self::run).
    pub fn new(listener: TcpListener, routes: Router, tls: Option<Tls>) -> Self {
        Self {
            listener,
            routes,
            tls,
            connections: GracefulShutdown::new(),
            places: Places::new(),
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
    ///
    /// Clients whose connections the system had already taken are served, too, and whoever was
    /// accepted last is heard before idle connections are closed.
    pub async fn finish(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        // A listener that is closed resets what it has not accepted.
        while let Ok(Ok((socket, _))) = timeout(Duration::ZERO, self.listener.accept()).await {
            let Ok(Some(place)) = timeout(Duration::ZERO, self.places.take()).await else {
                break;
            };
            self.spawn(socket, place);
        }
        drop(self.listener);
        let open = self.connections.count();
        tracing::info!(?limit, open, "stopped accepting, finishing");
        if open > 0 {
            sleep(LAST_CALL.min(limit)).await;
        }
        let left = end.saturating_duration_since(Instant::now());
        let finished = timeout(left, self.connections.shutdown()).await.is_ok();
        if !finished {
            tracing::warn!("not everything was finished in time");
        }
        finished
    }

    /// Accepts for ever.
    pub async fn accept(&self) {
        while let Some(place) = self.places.take().await {
            match self.listener.accept().await {
                Ok((socket, _)) => self.spawn(socket, place),
                Err(why) => {
                    tracing::warn!(%why, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, socket: TcpStream, place: Place) {
        let watcher = self.connections.watcher();
        let serving = connection::serve(
            socket,
            self.tls.clone(),
            self.routes.clone(),
            watcher,
            place.crowded,
        );
        tokio::spawn(async move {
            if let Err(why) = serving.await {
                tracing::debug!(why, "a connection ended early");
            }
            drop(place);
        });
    }
}
