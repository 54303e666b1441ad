//! What a server says of itself to load balancers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether new work should be sent here: set once warmed up, unset when draining.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Changes the answer of `/readyz`.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// The current answer.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
