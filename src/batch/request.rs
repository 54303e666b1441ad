//! The request that a queued item belongs to.

use std::time::Duration;

use super::Deadline;

/// Tells the requests of one queue apart. The queue numbers them itself: a client's `X-Request-Id`
/// is a name that the client chose, and two may choose the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RequestNumber(pub(super) u64);

/// One request, the same for all of its images: they share a deadline, and take turns with other
/// requests' images and not with each other. [`Batcher::new_request`](super::Batcher::new_request)
/// makes it.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext {
    pub(super) number: RequestNumber,
    deadline: Deadline,
}

impl RequestContext {
    pub(super) fn new(number: RequestNumber, deadline: Deadline) -> Self {
        Self { number, deadline }
    }

    /// When its answer is no longer wanted.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The same request, with `limit` from now as its deadline if that is earlier.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        let deadline = self.deadline.within(limit);
        Self { deadline, ..self }
    }
}
