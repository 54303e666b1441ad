//! When to close a batch: a pure rule over what waits.

use std::num::NonZeroUsize;

/// The rule and the bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How batches are closed.
    pub batching: Batching,
    /// The most inputs that one run takes.
    pub max_batch: NonZeroUsize,
    /// The most inputs that may wait. Each holds its tensor, so this bounds memory as well.
    pub max_waiting: NonZeroUsize,
}

/// How batches are closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Batching {
    /// Everything that waits, up to the largest batch, as soon as the engine is free.
    Greedy,
    /// What the measured speed of each batch size recommends; [`Batching::Greedy`] until anything
    /// has been learned.
    Auto,
}

impl Policy {
    /// How many of the oldest `waiting` inputs run now, the engine being free.
    pub fn close(&self, waiting: usize) -> usize {
        match self.batching {
            Batching::Greedy | Batching::Auto => waiting.min(self.max_batch.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greedy(max_batch: usize) -> Policy {
        Policy {
            batching: Batching::Greedy,
            max_batch: NonZeroUsize::new(max_batch).unwrap(),
            max_waiting: NonZeroUsize::new(100).unwrap(),
        }
    }

    #[test]
    fn a_lone_request_runs_alone_and_at_once() {
        assert_eq!(greedy(8).close(1), 1);
    }

    #[test]
    fn all_that_waits_runs_together() {
        assert_eq!(greedy(8).close(5), 5);
    }

    #[test]
    fn the_largest_batch_bounds_a_crowd() {
        assert_eq!(greedy(8).close(50), 8);
    }

    #[test]
    fn nothing_waiting_closes_nothing() {
        assert_eq!(greedy(8).close(0), 0);
    }
}
