use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::sleep,
};

use super::*;

#[derive(Debug)]
struct Reading(usize);

impl Weigh for Reading {
    fn bytes(&self) -> usize {
        self.0
    }
}

fn results(bytes: u64) -> Results<Reading> {
    Results::new(bytes, Arc::new(Metrics::new().unwrap()))
}

fn key(picture: &str) -> Key {
    Key::new(picture.as_bytes(), "model", Keep::Rollout, Owner::ANYONE)
}

/// A computation that waits for leave and counts how often it began and ended.
#[derive(Clone)]
struct Slow {
    leave: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Slow {
    fn new() -> Self {
        Self {
            leave: Arc::new(Semaphore::new(0)),
            begun: Arc::default(),
            ended: Arc::default(),
        }
    }

    async fn run(self, outcome: Result<usize>) -> Result<Reading> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.leave.acquire().await.unwrap().forget();
        self.ended.fetch_add(1, Ordering::SeqCst);
        outcome.map(Reading)
    }

    fn counts(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.begun), count(&self.ended))
    }
}

/// A request that has boarded once this returns.
async fn request(
    results: &Results<Reading>,
    slow: &Slow,
    outcome: Result<usize>,
) -> JoinHandle<Result<(Arc<Reading>, bool)>> {
    let (results, slow) = (results.clone(), slow.clone());
    let (ready, started) = oneshot::channel();
    let task = tokio::spawn(async move {
        let _ = ready.send(());
        results
            .get(key("dog"), || slow.clone().run(outcome.clone()))
            .await
    });
    started.await.unwrap();
    sleep(Duration::from_millis(1)).await;
    task
}

#[tokio::test(start_paused = true)]
async fn identical_requests_in_flight_are_computed_once_and_then_kept() {
    let (results, slow) = (results(1 << 20), Slow::new());
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(request(&results, &slow, Ok(7)).await);
    }
    slow.leave.add_permits(1);
    let mut reused = 0;
    for task in tasks {
        let (result, joined) = task.await.unwrap().unwrap();
        assert_eq!(result.0, 7);
        reused += usize::from(joined);
    }
    assert_eq!((slow.counts(), reused), ((1, 1), 4));
    let later = request(&results, &slow, Ok(8)).await.await.unwrap();
    let (result, hit) = later.unwrap();
    assert_eq!((result.0, hit), (7, true));
    assert!(lock(&results.flights).by_key.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_first_client_that_leaves_takes_nobody_with_it() {
    let (results, slow) = (results(1 << 20), Slow::new());
    let first = request(&results, &slow, Ok(7)).await;
    let second = request(&results, &slow, Ok(7)).await;
    first.abort();
    let _ = first.await;
    slow.leave.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap().0.0, 7);
    assert_eq!(slow.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn when_all_have_left_the_work_is_given_up() {
    let (results, slow) = (results(1 << 20), Slow::new());
    for _ in 0..2 {
        let task = request(&results, &slow, Ok(7)).await;
        task.abort();
        let _ = task.await;
    }
    assert!(lock(&results.flights).by_key.is_empty());
    slow.leave.add_permits(1);
    let alone = request(&results, &slow, Ok(9)).await;
    assert_eq!(alone.await.unwrap().unwrap().0.0, 9);
    assert_eq!(slow.counts(), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn another_request_s_deadline_is_not_mine_but_its_bad_picture_is() {
    let (results, slow) = (results(1 << 20), Slow::new());
    let late = Error::DeadlinePassed {
        deadline: Duration::from_secs(1),
    };
    let first = request(&results, &slow, Err(late)).await;
    let second = request(&results, &slow, Ok(7)).await;
    slow.leave.add_permits(2);
    assert!(first.await.unwrap().is_err());
    assert_eq!(second.await.unwrap().unwrap().0.0, 7);

    let other = self::results(1 << 20);
    let broken = Error::ImageUndecodable {
        format: "jpeg",
        detail: "cut".into(),
    };
    let slow = Slow::new();
    let first = request(&other, &slow, Err(broken.clone())).await;
    let second = request(&other, &slow, Ok(7)).await;
    slow.leave.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap_err(), broken);
    assert_eq!(second.await.unwrap().unwrap_err(), broken);
    assert_eq!(slow.counts(), (1, 1));
}

#[tokio::test]
async fn what_is_kept_is_bounded_in_bytes() {
    let results = results(10_000);
    for picture in 0..100 {
        let compute = || async { Ok(Reading(1000)) };
        results
            .get(key(&picture.to_string()), compute)
            .await
            .unwrap();
    }
    let bytes = results.bytes();
    assert!((1000..=10_000).contains(&bytes), "{bytes}");
}

#[test]
fn whatever_matters_is_in_the_key() {
    let (one, two) = (Owner::of_key(1), Owner::of_key(2));
    let keys = [
        Key::new(b"dog", "a", Keep::Rollout, one),
        Key::new(b"cat", "a", Keep::Rollout, one),
        Key::new(b"dog", "b", Keep::Rollout, one),
        Key::new(b"dog", "a", Keep::Heads, one),
        Key::new(b"dog", "a", Keep::Nothing, one),
        Key::new(b"dog", "a", Keep::Rollout, two),
        Key::new(b"og", "ad", Keep::Rollout, one),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "{at}");
    }
    assert_eq!(keys[0], Key::new(b"dog", "a", Keep::Rollout, one));
}
