use http_body_util::BodyExt;
use hyper::Version;
use tokio::time::{sleep, timeout};

use super::*;
use crate::server::requests::Requests;

const LIMIT: Duration = Duration::from_secs(30);

fn answer(unread: &UnreadAnswers, bytes: usize) -> AnswerBody {
    let requests = Arc::new(Requests::new());
    let body = Body::from(vec![7; bytes]);
    unread.answer(body, requests.begin(Version::HTTP_2))
}

/// A client that takes one piece and then waits for so long before it takes the rest.
async fn slow(mut answer: AnswerBody, pause: Duration) -> usize {
    let first = answer.frame().await.unwrap().unwrap();
    sleep(pause).await;
    let rest = answer.collect().await.unwrap().to_bytes();
    first.data_ref().unwrap().len() + rest.len()
}

#[tokio::test]
async fn an_answer_is_handed_over_in_pieces_and_arrives_whole() {
    let unread = UnreadAnswers::new();
    for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
        let read = async {
            let mut answer = answer(&unread, length);
            assert_eq!(answer.size_hint().exact(), Some(length as u64));
            let mut pieces = Vec::new();
            while let Some(frame) = answer.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!((1..=PIECE).contains(&data.len()));
                pieces.push(data);
                let left = length - pieces.concat().len();
                assert_eq!(answer.size_hint().exact(), Some(left as u64));
                assert_eq!(answer.is_end_stream(), left == 0);
                // An answer of one piece is not worth counting.
                let counted = if length > PIECE { left } else { 0 };
                assert_eq!(unread.bytes(), counted as u64);
            }
            assert_eq!(pieces.concat(), vec![7; length]);
        };
        supervise(read, LIMIT).await.unwrap();
        assert_eq!(unread.bytes(), 0);
    }
}

#[tokio::test]
async fn a_piece_does_not_keep_the_whole_answer_in_memory() {
    let unread = UnreadAnswers::new();
    let whole = Bytes::from(vec![7; 10 * PIECE]);
    let requests = Arc::new(Requests::new());
    let body = Body::from(whole.clone());
    let mut answer = unread.answer(body, requests.begin(Version::HTTP_2));
    let piece = supervise(async move { answer.frame().await }, LIMIT).await;
    // The answer is gone; only if the piece is a copy is the other handle the last one.
    assert_eq!(
        piece.flatten().unwrap().unwrap().into_data().unwrap().len(),
        PIECE
    );
    assert!(whole.is_unique());
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_no_piece_for_long_is_given_up_and_a_slow_one_is_not() {
    let unread = UnreadAnswers::new();
    let length = 2 * PIECE;
    let slowly = supervise(slow(answer(&unread, length), LIMIT / 2), LIMIT).await;
    assert_eq!(slowly, Some(length));
    let began = Instant::now();
    let never = supervise(slow(answer(&unread, length), 10 * LIMIT), LIMIT).await;
    assert_eq!((never, began.elapsed().as_secs()), (None, LIMIT.as_secs()));
    assert_eq!(unread.bytes(), 0);
    // A small answer that is not taken is given up as well.
    let small = supervise(slow(answer(&unread, 1), 10 * LIMIT), LIMIT).await;
    assert_eq!(small, None);
}

/// Clients that take one of five pieces and then wait, as tasks; how many get all.
async fn crowd(unread: &UnreadAnswers, clients: usize, pause: Duration) -> Vec<bool> {
    let mut reading = Vec::new();
    for _ in 0..clients {
        let slow = slow(answer(unread, 5 * PIECE), pause);
        reading.push(tokio::spawn(supervise(slow, LIMIT)));
        sleep(Duration::from_millis(1)).await;
    }
    let mut whole = Vec::new();
    for client in reading {
        whole.push(client.await.unwrap() == Some(5 * PIECE));
    }
    whole
}

/// Room for two of them to be comfortable, and for four.
const SMALL: Budget = Budget {
    comfortable: 10 * PIECE as u64,
    max: 20 * PIECE as u64,
};

#[tokio::test(start_paused = true)]
async fn beyond_the_comfortable_part_what_is_stalled_is_given_up() {
    let unread = UnreadAnswers::within(SMALL);
    let stalled = crowd(&unread, 2, 10 * STALLED);
    let others = async {
        sleep(2 * STALLED).await;
        crowd(&unread, 4, STALLED / 2).await
    };
    let (stalled, others) = tokio::join!(stalled, others);
    // Those who read fill the budget beyond its comfortable part, and all get their answers.
    assert_eq!(stalled, [false, false]);
    assert_eq!(others, [true; 4]);
    assert_eq!(unread.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_budget_what_has_waited_longest_is_given_up() {
    let unread = UnreadAnswers::within(SMALL);
    // Each leaves four pieces of its five: the fifth and the sixth need the room of one more each.
    let six = crowd(&unread, 6, STALLED / 2).await;
    assert_eq!(six, [false, false, true, true, true, true]);
}

#[tokio::test(start_paused = true)]
async fn one_answer_that_exceeds_the_budget_alone_is_sent() {
    let unread = UnreadAnswers::within(Budget {
        comfortable: 1,
        max: 2,
    });
    let alone = supervise(slow(answer(&unread, 3 * PIECE), LIMIT / 2), LIMIT);
    let alone = timeout(LIMIT, alone).await.unwrap();
    assert_eq!(alone, Some(3 * PIECE));
}
