//! A queue in which requests take turns: plain lists with rules, apart from locks and clocks.
//!
//! Requests take turns: each gives its oldest image, then goes to the end of the line. So a
//! request with many images does not hold up those with one, and is not held up by them for ever.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{BatchItem, Inference, lanes::LaneId, request::RequestNumber};
use crate::Result;

/// One image in the queue.
#[derive(Debug)]
pub(super) struct QueueEntry {
    pub(super) item: BatchItem,
    /// Which images belong together.
    pub(super) request: RequestNumber,
    /// After it the answer is not wanted any more.
    pub(super) deadline: Instant,
    /// When it was handed in.
    pub(super) queued_at: Instant,
    /// The request's span, for what the worker has to say of it.
    pub(super) span: tracing::Span,
    /// A child span: the time in the queue, ended when the batch starts.
    pub(super) queue_span: tracing::Span,
    /// The lane on which it failed alone, if it did: another one has tried or will try it.
    pub(super) failed_on: Option<LaneId>,
    /// Where the answer goes; closed when the client has left.
    pub(super) reply: oneshot::Sender<Result<Inference>>,
}

impl QueueEntry {
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        !self.reply.is_closed() && now < self.deadline
    }
}

/// Waiting entries, each under a number that grows.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// In the order of their turns.
    requests: VecDeque<Request>,
    next: u64,
}

/// The waiting entries of one request, oldest first; never empty.
#[derive(Debug)]
struct Request {
    number: RequestNumber,
    entries: VecDeque<(u64, QueueEntry)>,
}

impl FairQueue {
    /// Appends an entry and answers its number.
    pub(super) fn push(&mut self, entry: QueueEntry) -> u64 {
        let number = self.next;
        self.next += 1;
        let of = entry.request;
        let mut requests = self.requests.iter_mut();
        match requests.rfind(|request| request.number == of) {
            Some(request) => request.entries.push_back((number, entry)),
            None => self.requests.push_back(Request {
                number: of,
                entries: VecDeque::from([(number, entry)]),
            }),
        }
        number
    }

    /// Takes an entry out by its number; `None` when it is no longer waiting.
    pub(super) fn remove(&mut self, number: u64) -> Option<QueueEntry> {
        for (at, request) in self.requests.iter_mut().enumerate() {
            let entries = &mut request.entries;
            if let Some(position) = entries.iter().position(|(own, _)| *own == number) {
                let entry = entries.remove(position).map(|(_, entry)| entry);
                if entries.is_empty() {
                    self.requests.remove(at);
                }
                return entry;
            }
        }
        None
    }

    /// Drops cancelled and expired entries, then takes as many as `close` says, by turns. `close`
    /// sees how much time is left for each, in the order of their turns.
    pub(super) fn take(
        &mut self,
        now: Instant,
        close: impl FnOnce(&[Duration]) -> usize,
    ) -> Vec<QueueEntry> {
        self.requests.retain_mut(|request| {
            request.entries.retain(|(_, entry)| entry.is_wanted(now));
            !request.entries.is_empty()
        });
        let left = self.time_left(now);
        let count = close(&left).min(left.len());
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count
            && let Some(mut request) = self.requests.pop_front()
        {
            taken.extend(request.entries.pop_front().map(|(_, entry)| entry));
            if !request.entries.is_empty() {
                self.requests.push_back(request);
            }
        }
        taken
    }

    /// Of all that wait, in the order in which [`take`](Self::take) would take them.
    fn time_left(&self, now: Instant) -> Vec<Duration> {
        let requests = self.requests.iter();
        let turns = requests.map(|request| request.entries.len()).max();
        let of_turn = |turn| {
            let requests = self.requests.iter();
            let entries = requests.filter_map(move |request| request.entries.get(turn));
            entries.map(move |(_, entry)| entry.deadline.saturating_duration_since(now))
        };
        (0..turns.unwrap_or_default()).flat_map(of_turn).collect()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        let requests = self.requests.iter();
        requests.map(|request| request.entries.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<Inference>>;

    fn entry(tag: f32, request: u64, deadline: Instant) -> (QueueEntry, Answer) {
        let (reply, answer) = oneshot::channel();
        let span = tracing::Span::none();
        (
            QueueEntry {
                item: vec![tag].into(),
                request: RequestNumber(request),
                deadline,
                queued_at: Instant::now(),
                queue_span: span.clone(),
                span,
                failed_on: None,
                reply,
            },
            answer,
        )
    }

    fn tag(item: &BatchItem) -> f32 {
        item.tensor.view().normalized().unwrap()[0]
    }

    fn tags(entries: &[QueueEntry]) -> Vec<f32> {
        entries.iter().map(|entry| tag(&entry.item)).collect()
    }

    #[test]
    fn oldest_come_first_and_the_rest_stay() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = FairQueue::default();
        let answers: Vec<Answer> = (0..5)
            .map(|i| {
                let (entry, answer) = entry(i as f32, i, later);
                queue.push(entry);
                answer
            })
            .collect();
        assert_eq!(tags(&queue.take(now, |_| 3)), [0.0, 1.0, 2.0]);
        assert_eq!(tags(&queue.take(now, <[_]>::len)), [3.0, 4.0]);
        assert_eq!(answers.len(), 5);
    }

    #[test]
    fn an_item_whose_client_has_left_is_never_taken() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = FairQueue::default();
        let (gone, answer) = entry(0.0, 0, later);
        let (here, _answer) = entry(1.0, 1, later);
        queue.push(gone);
        queue.push(here);
        drop(answer);
        assert_eq!(tags(&queue.take(now, <[_]>::len)), [1.0]);
    }

    #[test]
    fn an_expired_deadline_is_never_taken() {
        let now = Instant::now();
        let mut queue = FairQueue::default();
        let (early, _a) = entry(0.0, 0, now + Duration::from_millis(10));
        let (late, _b) = entry(1.0, 1, now + Duration::from_millis(20));
        queue.push(early);
        queue.push(late);
        // Exactly at the deadline is too late.
        assert_eq!(
            tags(&queue.take(now + Duration::from_millis(10), <[_]>::len)),
            [1.0]
        );
    }

    #[test]
    fn the_rule_sees_only_items_that_still_want_an_answer() {
        let now = Instant::now();
        let mut queue = FairQueue::default();
        let (expired, _a) = entry(0.0, 0, now);
        let (wanted, _b) = entry(1.0, 1, now + Duration::from_secs(1));
        queue.push(expired);
        queue.push(wanted);
        let mut seen = None;
        queue.take(now, |left| {
            seen = Some(left.len());
            0
        });
        assert_eq!(seen, Some(1));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn removal_by_number_finds_the_right_one_after_others_have_gone() {
        let later = Instant::now() + Duration::from_secs(1);
        let mut queue = FairQueue::default();
        let mut answers = Vec::new();
        let numbers: Vec<u64> = (0..4)
            .map(|i| {
                let (entry, answer) = entry(i as f32, i % 2, later);
                answers.push(answer);
                queue.push(entry)
            })
            .collect();
        assert_eq!(tag(&queue.remove(numbers[1]).unwrap().item), 1.0);
        assert_eq!(tag(&queue.remove(numbers[3]).unwrap().item), 3.0);
        assert!(queue.remove(numbers[1]).is_none());
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_request_with_many_images_takes_turns_with_the_others() {
        let now = Instant::now();
        // All have the same deadline, to the nanosecond.
        let later = now + Duration::from_secs(1);
        let mut queue = FairQueue::default();
        let mut answers = Vec::new();
        let mut push = |queue: &mut FairQueue, tag, request| {
            let (entry, answer) = entry(tag, request, later);
            answers.push(answer);
            queue.push(entry);
        };
        for tag in [1.0, 1.1, 1.2, 1.3] {
            push(&mut queue, tag, 1);
        }
        push(&mut queue, 2.0, 2);
        push(&mut queue, 3.0, 3);
        assert_eq!(tags(&queue.take(now, |_| 4)), [1.0, 2.0, 3.0, 1.1]);
        // New requests go behind what has waited longer.
        push(&mut queue, 4.0, 4);
        push(&mut queue, 5.0, 5);
        assert_eq!(tags(&queue.take(now, <[_]>::len)), [1.2, 4.0, 5.0, 1.3]);
    }

    #[test]
    fn the_rule_sees_the_time_that_is_left_in_the_order_of_turns() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut queue = FairQueue::default();
        let mut answers = Vec::new();
        for (request, deadline) in [(1, 3), (1, 5), (1, 4), (2, 1), (3, 2)] {
            let (entry, answer) = entry(0.0, request, after(deadline));
            answers.push(answer);
            queue.push(entry);
        }
        let mut seen = Vec::new();
        queue.take(now, |left| {
            seen.extend(left.iter().map(Duration::as_secs));
            0
        });
        assert_eq!(seen, [3, 1, 2, 5, 4]);
    }
}
