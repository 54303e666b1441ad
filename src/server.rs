//! Sockets: accepting, deadlines, a cap on connections, TLS, and an orderly end.
//!
//! An accept loop of our own, because `axum::serve` gives hyper no timer (so a client may send its
//! headers for ever) and waits without a deadline when it stops.

mod answers;
pub(crate) mod connection;
mod paced;
mod places;
mod requests;
mod signals;
mod stopwatch;
mod tls;

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::{
    connection::{ConnectionInfo, Shared},
    places::{Place, Places},
};
pub use self::{
    signals::{Hangups, Signals, Stop},
    tls::Tls,
};
use crate::http::{ClientAddress, Readiness};

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that was accepted last has to bring its request when the server stops.
const LAST_CALL: Duration = Duration::from_millis(500);

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Shared,
    tls: Option<Tls>,
    /// Whether connections take no more requests. Each of them holds a receiver.
    closing: watch::Sender<bool>,
    places: Places,
}

impl Server {
    /// Nothing is accepted before [`run`](Self::run). A connection may rest for `keep_alive` between
    /// requests.
    pub fn new(
        listener: TcpListener,
        routes: Router,
        tls: Option<Tls>,
        keep_alive: Duration,
    ) -> Self {
        Self {
            listener,
            shared: Shared::new(routes, keep_alive),
            tls,
            closing: watch::Sender::new(false),
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
        while let Ok(Ok((socket, client))) = timeout(Duration::ZERO, self.listener.accept()).await {
            let Ok(Some(place)) = timeout(Duration::ZERO, self.places.take()).await else {
                break;
            };
            self.spawn(socket, client, place);
        }
        drop(self.listener);
        let open = self.closing.receiver_count();
        tracing::info!(?limit, open, "stopped accepting, finishing");
        if open > 0 {
            sleep(LAST_CALL.min(limit)).await;
        }
        let left = end.saturating_duration_since(Instant::now());
        self.closing.send_replace(true);
        let finished = timeout(left, self.closing.closed()).await.is_ok();
        if !finished {
            tracing::warn!("not everything was finished in time");
        }
        finished
    }

    /// Accepts for ever.
    pub async fn accept(&self) {
        while let Some(place) = self.places.take().await {
            match self.listener.accept().await {
                Ok((socket, client)) => self.spawn(socket, client, place),
                Err(why) => {
                    tracing::warn!(%why, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, socket: TcpStream, client: SocketAddr, place: Place) {
        let info = ConnectionInfo {
            crowded: place.crowded,
            open: place.taken,
            client: Some(ClientAddress(client.ip())),
        };
        let serving = connection::serve(
            socket,
            self.tls.clone(),
            self.shared.clone(),
            info,
            self.closing.subscribe(),
        );
        tokio::spawn(async move {
            if let Err(why) = serving.await {
                tracing::debug!(why, "a connection ended early");
            }
            drop(place);
        });
    }
}
