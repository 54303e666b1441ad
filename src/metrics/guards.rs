//! Guards that count when they are dropped.

use prometheus::{IntCounter, IntGauge};

/// Counts a request as in flight while it lives.
#[derive(Debug)]
pub struct ActiveRequestGuard(pub(super) IntGauge);

impl Drop for ActiveRequestGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts an abandoned image when dropped; see
/// [`Metrics::abandon_guard`](super::Metrics::abandon_guard).
#[derive(Debug)]
pub struct AbandonGuard(pub(super) Option<IntCounter>);

impl AbandonGuard {
    /// The stage has ended: nothing is counted.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for AbandonGuard {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.inc();
        }
    }
}
