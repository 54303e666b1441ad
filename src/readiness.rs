//! What a server says of itself to load balancers.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether new work should be sent here: set once warmed up, unset when draining.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<bool>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Readiness {
    /// Changes the answer of `/readyz`.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// The current answer.
    pub fn get(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the answer is this one.
    pub async fn becomes(&self, ready: bool) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|&is| is == ready).await;
    }
}
