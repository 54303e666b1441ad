//! Answers on their way to clients that may not read them.
//!
//! hyper takes an answer's body as fast as it is handed over, whatever of it the client has taken:
//! with HTTP/2 a whole picture for a window of one byte. So a body is handed over in pieces, each
//! when hyper asks for it; what it has not asked for is counted over all connections. Where that
//! grows beyond what clients who read leave waiting, answers that nobody reads are given up, the
//! longest waiting first; at the utmost any that has waited longest. Whoever takes no piece for too
//! long is given up in any case.
//!
//! An answer is given up by ending the task that sends it ([`supervise`]): with HTTP/1 that is its
//! connection, with HTTP/2 its stream alone ([`Streams`]).

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::{
    body::{Body as HttpBody, Frame, SizeHint},
    rt::Executor,
};
use tokio::{sync::Notify, time::Instant};

use super::{requests::Running, stopwatch::Stopwatch};

/// Bytes that are handed over at a time. Pieces are copies: one that waits in a queue does not keep
/// the whole answer in memory.
const PIECE: usize = 8 << 10;

/// Bytes of all answers that clients have not taken.
const BUDGET: Budget = Budget {
    comfortable: 64 << 20,
    max: 256 << 20,
};

/// Beyond the comfortable part of the budget an answer is given up that has waited for so long.
const STALLED: Duration = Duration::from_secs(2);

/// How much of all answers may wait.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Beyond this, what is stalled goes.
    comfortable: u64,
    /// Beyond this, whatever has waited longest.
    max: u64,
}

/// What sends answers: a connection of HTTP/1, a stream of HTTP/2.
#[derive(Debug, Default)]
struct SendTask {
    /// Its answer is given up.
    given_up: Notify,
    /// Runs while a piece is not taken.
    waiting: Stopwatch,
}

tokio::task_local! {
    static SEND_TASK: Arc<SendTask>;
}

/// Runs what sends answers until its end, or until one is given up: because others need the
/// room, or because the client took nothing of it for `limit`. `None` then.
pub(super) async fn supervise<T>(work: impl Future<Output = T>, limit: Duration) -> Option<T> {
    let task = Arc::<SendTask>::default();
    let work = SEND_TASK.scope(Arc::clone(&task), work);
    tokio::select! {
        biased;
        outcome = work => Some(outcome),
        () = task.given_up.notified() => None,
        () = task.waiting.reaches(limit) => None,
    }
}

/// Runs the streams of HTTP/2 connections, each supervised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// How long a client may take nothing of an answer.
    pub(super) limit: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let supervised = supervise(stream, self.limit);
        tokio::spawn(async move {
            if supervised.await.is_none() {
                tracing::debug!("an answer that nobody reads is given up");
            }
        });
    }
}

/// Answers of all connections, as far as clients have not taken them. A handle; clones share the
/// content.
#[derive(Clone, Debug)]
pub(super) struct UnreadAnswers(Arc<Mutex<Ledger>>);

#[derive(Debug)]
struct Ledger {
    budget: Budget,
    total: u64,
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    /// When the last piece was taken.
    moved: Instant,
    task: Arc<SendTask>,
}

impl UnreadAnswers {
    /// Within the budget of a server.
    pub(super) fn new() -> Self {
        Self::within(BUDGET)
    }

    fn within(budget: Budget) -> Self {
        Self(Arc::new(Mutex::new(Ledger {
            budget,
            total: 0,
            next: 0,
            entries: HashMap::new(),
        })))
    }

    /// A body that is counted as long as it is not taken.
    pub(super) fn answer(&self, body: Body, running: Arc<Running>) -> AnswerBody {
        AnswerBody {
            body,
            frame: Bytes::new(),
            unread: self.clone(),
            number: None,
            task: None,
            _running: running,
        }
    }

    /// Counts an answer of so many bytes, and gives others up where there is no room for it.
    fn add(&self, bytes: u64, task: Arc<SendTask>) -> u64 {
        let now = Instant::now();
        let mut ledger = self.ledger();
        let number = ledger.next;
        ledger.next += 1;
        ledger.total += bytes;
        while let Some(longest) = ledger.one_too_many(now) {
            ledger.give_up(longest);
        }
        let entry = Entry {
            bytes,
            moved: now,
            task,
        };
        ledger.entries.insert(number, entry);
        number
    }

    /// The client has taken so many bytes.
    fn moved(&self, number: u64, bytes: u64) {
        let mut ledger = self.ledger();
        if let Some(entry) = ledger.entries.get_mut(&number) {
            let bytes = bytes.min(entry.bytes);
            entry.bytes -= bytes;
            entry.moved = Instant::now();
            ledger.total -= bytes;
        }
    }

    /// Bytes that clients have not taken.
    #[cfg(any(test, fuzzing))]
    pub(super) fn bytes(&self) -> u64 {
        self.ledger().total
    }

    /// Nothing that holds this lock leaves the ledger half changed.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// The answer that has waited longest, if it has to go.
    fn one_too_many(&self, now: Instant) -> Option<u64> {
        if self.total <= self.budget.comfortable {
            return None;
        }
        let longest = self.entries.iter().min_by_key(|(_, entry)| entry.moved);
        let (&number, entry) = longest?;
        let stalled = now.saturating_duration_since(entry.moved) >= STALLED;
        (stalled || self.total > self.budget.max).then_some(number)
    }

    /// Ends what sends an answer.
    fn give_up(&mut self, number: u64) {
        if let Some(entry) = self.forget(number) {
            entry.task.given_up.notify_one();
        }
    }

    fn forget(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.total -= entry.bytes;
        Some(entry)
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct AnswerBody {
    body: Body,
    /// What is left of a frame.
    frame: Bytes,
    unread: UnreadAnswers,
    /// In the ledger, once something was asked for.
    number: Option<u64>,
    task: Option<Arc<SendTask>>,
    _running: Arc<Running>,
}

impl AnswerBody {
    /// hyper asks for more: the client, or a buffer on the way to it, has taken what it had.
    fn asked(&mut self) {
        if self.task.is_some() {
            return;
        }
        // Without a task that can be ended there is nothing to count for.
        let Ok(task) = SEND_TASK.try_with(Arc::clone) else {
            return;
        };
        let bytes = self.size_hint().lower();
        if bytes > PIECE as u64 {
            self.number = Some(self.unread.add(bytes, Arc::clone(&task)));
        }
        self.task = Some(task);
    }

    fn piece(&mut self) -> Bytes {
        let length = PIECE.min(self.frame.len());
        let piece = self.frame.split_to(length);
        match self.number {
            Some(_) => Bytes::copy_from_slice(&piece),
            None => piece,
        }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.asked();
        // Nobody waits for the client while the body is not there.
        if let Some(task) = &self.task {
            task.waiting.stop();
        }
        if self.frame.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.frame = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.piece();
        if let Some(number) = self.number {
            self.unread.moved(number, piece.len() as u64);
        }
        if let Some(task) = &self.task {
            task.waiting.restart();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, held) = (self.body.size_hint(), self.frame.len() as u64);
        let mut sum = SizeHint::new();
        sum.set_lower(hint.lower() + held);
        if let Some(upper) = hint.upper() {
            sum.set_upper(upper + held);
        }
        sum
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.waiting.stop();
        }
        if let Some(number) = self.number {
            self.unread.ledger().forget(number);
        }
    }
}

#[cfg(test)]
mod tests;
