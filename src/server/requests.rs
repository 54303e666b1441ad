//! What is asked and answered on one connection.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Version,
    body::{Body, Frame, Incoming, SizeHint},
};

use super::stopwatch::Stopwatch;

/// Requests of a connection; shared with what reads and answers them.
#[derive(Debug)]
pub(super) struct Requests {
    counts: Mutex<Counts>,
    /// Runs while no request is open.
    idle: Stopwatch,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    begun: u64,
    /// Those of which something is still to be read, made or sent.
    open: u64,
    /// Those whose answers are being made.
    making: u64,
    /// Whether the last one's client knows interim answers, which HTTP/1.0 does not.
    interim: bool,
}

impl Requests {
    /// None yet; idle from now on.
    pub(super) fn new() -> Self {
        let requests = Self {
            counts: Mutex::default(),
            idle: Stopwatch::default(),
        };
        requests.idle.restart();
        requests
    }

    /// A request's head has been read. The request is open as long as the value or a clone lives.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Arc<Running> {
        let mut counts = self.counts();
        counts.begun += 1;
        counts.open += 1;
        counts.making += 1;
        counts.interim = version >= Version::HTTP_11;
        self.idle.stop();
        drop(counts);
        Arc::new(Running {
            requests: Arc::clone(self),
            answered: AtomicBool::new(false),
        })
    }

    /// How many there have been.
    pub(super) fn begun(&self) -> u64 {
        self.counts().begun
    }

    /// Whether none is open.
    pub(super) fn is_idle(&self) -> bool {
        self.counts().open == 0
    }

    /// Whether an answer is being made of which nothing has been sent.
    pub(super) fn is_making(&self) -> bool {
        self.counts().making > 0
    }

    /// Whether the client of that answer knows interim answers.
    pub(super) fn interim(&self) -> bool {
        self.counts().interim
    }

    /// Waits until nothing has been asked for so long: `first` for the first request, `rest` for
    /// those after it.
    pub(super) async fn rested(&self, first: Duration, rest: Duration) {
        loop {
            let begun = self.begun();
            let limit = match begun {
                0 => first,
                _ => rest,
            };
            self.idle.reaches(limit).await;
            if self.begun() == begun {
                return;
            }
        }
    }

    /// Nothing that holds this lock leaves the counts half changed.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open request.
#[derive(Debug)]
pub(super) struct Running {
    requests: Arc<Requests>,
    answered: AtomicBool,
}

impl Running {
    /// The answer is made; what is left is to send it.
    pub(super) fn answered(&self) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.requests.counts().making -= 1;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.answered();
        let mut counts = self.requests.counts();
        counts.open -= 1;
        if counts.open == 0 {
            self.requests.idle.restart();
        }
    }
}

/// A request's body, which keeps the request open.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Incoming,
    _running: Arc<Running>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, running: Arc<Running>) -> Self {
        Self {
            body,
            _running: running,
        }
    }
}

impl Body for RequestBody {
    type Data = <Incoming as Body>::Data;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    #[tokio::test(start_paused = true)]
    async fn the_first_request_and_those_after_it_have_times_of_their_own() {
        let requests = Arc::new(Requests::new());
        let began = Instant::now();
        requests.rested(SECONDS(10), SECONDS(75)).await;
        assert_eq!(began.elapsed().as_secs(), 10);

        let began = Instant::now();
        let running = requests.begin(Version::HTTP_2);
        let asking = async {
            // Longer than either: an open request is no rest, whether its answer is made or sent.
            sleep(SECONDS(100)).await;
            running.answered();
            sleep(SECONDS(100)).await;
            drop(running);
        };
        tokio::join!(requests.rested(SECONDS(10), SECONDS(75)), asking);
        assert_eq!(began.elapsed().as_secs(), 275);
    }

    #[test]
    fn an_answer_is_made_until_it_is_answered_and_open_until_it_is_gone() {
        let requests = Arc::new(Requests::new());
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let running = requests.begin(old);
        assert!(requests.is_making() && !requests.is_idle() && !requests.interim());
        let body = Arc::clone(&running);
        running.answered();
        drop(running);
        assert!(!requests.is_making() && !requests.is_idle());
        drop(body);
        assert!(requests.is_idle());
        drop(requests.begin(new));
        assert!(requests.interim() && requests.is_idle() && !requests.is_making());
    }
}
