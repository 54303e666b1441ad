//! Signals of the operating system.

use std::io;

/// How to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// In order: SIGTERM.
    Drain,
    /// At once, finishing only what is running: Ctrl-C, or a second signal.
    Now,
}

/// Listens for signals; made before the model is loaded, so that an early one is not lost.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Stop {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => Stop::Drain,
            _ = self.interrupt.recv() => Stop::Now,
        }
        #[cfg(not(unix))]
        {
            // Without a console there is no signal to wait for.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Stop::Now
        }
    }
}

/// Listens for SIGHUP, which asks to look at the model directories again. Made before the model is
/// loaded, so that an early one does not end the program.
#[derive(Debug)]
pub struct ReloadSignals {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl ReloadSignals {
    /// Starts to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let signal = signal(SignalKind::hangup())?;
            Ok(Self { signal })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one; for ever where there is no such signal.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}
