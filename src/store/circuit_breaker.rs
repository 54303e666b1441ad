//! A circuit breaker for a server that may be unavailable.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// After a failure no request is sent for a while; then one probes for all. So a server that does
/// not answer costs one request its timeout now and then, and not every one.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<Option<Instant>>);

impl CircuitBreaker {
    /// Time between two probes while the server is unavailable; also what clients are told to wait.
    pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

    /// Whether to send a request at `now`. While the server is unavailable, the answer is yes once
    /// in a [`RETRY_INTERVAL`](Self::RETRY_INTERVAL).
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut next = self.next_attempt();
        match *next {
            Some(at) if now < at => false,
            Some(_) => {
                *next = Some(now + Self::RETRY_INTERVAL);
                true
            }
            None => true,
        }
    }

    /// A request failed at `now`; whether that opens the circuit.
    pub(super) fn record_failure(&self, now: Instant) -> bool {
        self.next_attempt()
            .replace(now + Self::RETRY_INTERVAL)
            .is_none()
    }

    /// A request succeeded; whether that closes the circuit.
    pub(super) fn record_success(&self) -> bool {
        self.next_attempt().take().is_some()
    }

    /// When to try next, if the server is away.
    fn next_attempt(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_works_is_always_tried() {
        let breaker = CircuitBreaker::default();
        let now = Instant::now();
        assert!(breaker.allows(now) && breaker.allows(now));
        assert!(!breaker.record_success());
    }

    #[test]
    fn one_request_probes_after_each_retry_interval() {
        let breaker = CircuitBreaker::default();
        let start = Instant::now();
        assert!(breaker.record_failure(start));
        assert!(!breaker.record_failure(start));
        assert!(!breaker.allows(start));
        let later = start + CircuitBreaker::RETRY_INTERVAL;
        assert!(breaker.allows(later));
        assert!(!breaker.allows(later));
        assert!(breaker.allows(later + CircuitBreaker::RETRY_INTERVAL));
    }

    #[test]
    fn one_success_closes_the_circuit() {
        let breaker = CircuitBreaker::default();
        let now = Instant::now();
        breaker.record_failure(now);
        assert!(breaker.record_success());
        assert!(breaker.allows(now) && breaker.allows(now));
    }
}
