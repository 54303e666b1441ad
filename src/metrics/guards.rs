//! Counts that end, or are made, when a guard is dropped.

use prometheus::{IntCounter, IntGauge};

/// Counts a request as in flight while it lives.
#[derive(Debug)]
pub struct InFlight(pub(super) IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a client that leaves; see [`Metrics::leaving`](super::Metrics::leaving).
#[derive(Debug)]
pub struct Leaving(pub(super) Option<IntCounter>);

impl Leaving {
    /// The stage has ended with the client still there.
    pub fn stayed(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.inc();
        }
    }
}
