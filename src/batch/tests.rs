//! The batcher with an engine that does what a test wants.

mod stage;
mod worker_panic;

use self::stage::{Stage, logit, stage, stage_and_workers};
use super::*;

#[tokio::test]
async fn a_request_that_finds_the_engine_idle_runs_alone_at_once() {
    let stage = stage(8, 8);
    let request = stage.submit(1.0).await;
    assert_eq!(stage.next_batch(), [1.0]);
    stage.let_run(1);
    assert_eq!(logit(request.await), 1.0);
}

#[tokio::test]
async fn what_arrives_meanwhile_forms_the_next_batch_and_answers_find_their_requests() {
    let stage = stage(8, 8);
    let mut requests = vec![stage.submit(1.0).await];
    assert_eq!(stage.next_batch(), [1.0]);
    for tag in [2.0, 3.0, 4.0] {
        requests.push(stage.submit(tag).await);
    }
    stage.let_run(2);
    assert_eq!(stage.next_batch(), [2.0, 3.0, 4.0]);
    for (request, tag) in requests.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        assert_eq!(logit(request.await), tag);
    }
}

#[tokio::test]
async fn an_idle_engine_takes_what_comes_while_another_runs() {
    let (stage, workers) = stage_and_workers(2, 8, 8);
    let mut requests = vec![stage.submit(1.0).await];
    assert_eq!(stage.next_batch(), [1.0]);
    requests.push(stage.submit(2.0).await);
    assert_eq!(stage.next_batch(), [2.0]);
    assert_eq!(stage.batcher.load().running, 2);
    // Both are busy; whichever is free first takes these together.
    for tag in [3.0, 4.0] {
        requests.push(stage.submit(tag).await);
    }
    assert_eq!(stage.batcher.load().waiting, 2);
    stage.let_run(1);
    assert_eq!(stage.next_batch(), [3.0, 4.0]);
    stage.let_run(2);
    let mut runs = Vec::new();
    for (request, tag) in requests.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        let inference = request.await.unwrap().unwrap();
        assert_eq!(inference.output.logits, [tag]);
        runs.push(inference.batch);
    }
    // Every run has a number of its own, whoever ran it.
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 3);
    let Stage { batcher, .. } = stage;
    drop(batcher);
    tokio::task::spawn_blocking(|| workers.join())
        .await
        .unwrap();
}

#[tokio::test]
async fn who_is_on_the_way_lengthens_the_predicted_wait_until_dropped() {
    let stage = stage(1, 8);
    let request = stage.submit(1.0).await;
    stage.next_batch();
    stage.let_run(1);
    assert_eq!(logit(request.await), 1.0);
    while stage.batcher.load().running > 0 {
        tokio::task::yield_now().await;
    }
    let idle = stage.batcher.load().predicted_wait;
    assert!(!idle.is_zero());
    let coming = [(); 3].map(|()| stage.batcher.announce());
    let load = stage.batcher.load();
    assert_eq!((load.waiting, load.announced), (0, 3));
    // Batches of one: these three, and the newcomer.
    let rounding = Duration::from_nanos(10);
    assert!(load.predicted_wait.abs_diff(4 * idle) < rounding);
    drop(coming);
    assert_eq!(stage.batcher.load().predicted_wait, idle);
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let stage = stage(1, 2);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let first = stage.submit(2.0).await;
    let second = stage.submit(3.0).await;
    let refused = stage.submit(4.0).await.await.unwrap();
    assert!(matches!(refused, Err(Error::Overloaded { .. })));
    assert!(
        stage
            .scrape()
            .contains("patchlight_shed_total{reason=\"queue_full\"} 1")
    );
    stage.let_run(3);
    for request in [running, first, second] {
        request.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_leaves_the_queue_is_counted_and_never_run() {
    let stage = stage(8, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let leaving = stage.submit(2.0).await;
    let staying = stage.submit(3.0).await;
    leaving.abort();
    assert!(leaving.await.is_err());
    assert_eq!(stage.batcher.load().waiting, 1);
    stage.let_run(2);
    assert_eq!(stage.next_batch(), [3.0]);
    assert_eq!(logit(staying.await), 3.0);
    assert_eq!(logit(running.await), 1.0);
    assert!(
        stage
            .scrape()
            .contains("patchlight_abandoned_total{stage=\"queue\"} 1")
    );
}

#[tokio::test]
async fn who_leaves_a_running_batch_is_counted_there() {
    let stage = stage(8, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    running.abort();
    assert!(running.await.is_err());
    assert!(
        stage
            .scrape()
            .contains("patchlight_abandoned_total{stage=\"inference\"} 1")
    );
    stage.let_run(1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_queue_is_answered_when_it_passes_not_when_the_batch_ends() {
    let stage = stage(8, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let given = Duration::from_millis(250);
    let before = tokio::time::Instant::now();
    let outcome = stage.batcher.run(vec![2.0], Deadline::after(given)).await;
    assert_eq!(
        outcome.unwrap_err(),
        Error::DeadlinePassed { deadline: given }
    );
    assert_eq!(before.elapsed(), given);
    assert_eq!(stage.batcher.load().waiting, 0, "it left the queue");
    // The clock that stands still jumps to the other deadline while the engine answers, so its
    // request is let go unasked.
    running.abort();
    stage.let_run(1);
}

#[tokio::test]
async fn a_failing_input_fails_alone() {
    let stage = stage(8, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let good = stage.submit(2.0).await;
    let bad = stage.submit(-3.0).await;
    let other = stage.submit(4.0).await;
    // The first batch, the failing one, and its three inputs one by one.
    stage.let_run(5);
    assert_eq!(logit(running.await), 1.0);
    assert_eq!(logit(good.await), 2.0);
    assert_eq!(bad.await.unwrap().unwrap_err(), Error::Inference);
    assert_eq!(logit(other.await), 4.0);
}

#[tokio::test]
async fn a_panicking_engine_is_a_failed_run_and_the_next_one_works() {
    let stage = stage(8, 8);
    stage.let_run(2);
    assert_eq!(
        stage.submit(0.0).await.await.unwrap().unwrap_err(),
        Error::Inference
    );
    assert_eq!(logit(stage.submit(5.0).await.await), 5.0);
}

#[tokio::test]
async fn an_output_that_is_no_number_fails_only_its_own_request() {
    let stage = stage(8, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let infinite = stage.submit(f32::INFINITY).await;
    let finite = stage.submit(2.0).await;
    stage.let_run(2);
    assert_eq!(infinite.await.unwrap().unwrap_err(), Error::NotFinite);
    assert_eq!(logit(finite.await), 2.0);
    assert_eq!(logit(running.await), 1.0);
}

#[tokio::test]
async fn closing_finishes_what_waits_and_refuses_newcomers() {
    let stage = stage(8, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let waiting = stage.submit(2.0).await;
    stage.batcher.close();
    assert_eq!(
        stage.submit(3.0).await.await.unwrap().unwrap_err(),
        Error::Draining
    );
    stage.let_run(2);
    assert_eq!(logit(running.await), 1.0);
    assert_eq!(logit(waiting.await), 2.0);
}

#[tokio::test]
async fn stopping_at_once_refuses_what_waits_and_finishes_what_runs() {
    let stage = stage(8, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let waiting = stage.submit(2.0).await;
    stage.batcher.refuse_waiting();
    assert_eq!(waiting.await.unwrap().unwrap_err(), Error::Draining);
    stage.let_run(1);
    assert_eq!(logit(running.await), 1.0);
}

#[tokio::test]
async fn background_runs_when_no_request_waits_and_comes_after_all_that_do() {
    let stage = stage(1, 8);
    let running = stage.submit(1.0).await;
    assert_eq!(stage.next_batch(), [1.0]);
    let mut asked = vec![running];
    for tag in [10.0, 11.0] {
        asked.push(stage.submit_in_background(tag).await);
    }
    for tag in [2.0, 3.0] {
        asked.push(stage.submit(tag).await);
    }
    let load = stage.batcher.load();
    // Nobody's predicted wait grows by what yields to everybody.
    assert_eq!((load.waiting, load.background), (2, 2));
    for expected in [2.0, 3.0, 10.0, 11.0] {
        stage.let_run(1);
        assert_eq!(stage.next_batch(), [expected]);
    }
    stage.let_run(1);
    for (asked, tag) in asked.into_iter().zip([1.0, 10.0, 11.0, 2.0, 3.0]) {
        assert_eq!(logit(asked.await), tag);
    }
}

#[tokio::test]
async fn background_that_is_called_off_leaves_the_queue_and_is_no_client_who_left() {
    let stage = stage(1, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let called_off = stage.submit_in_background(10.0).await;
    called_off.abort();
    assert!(called_off.await.is_err());
    assert_eq!(stage.batcher.load().background, 0);
    stage.let_run(1);
    assert_eq!(logit(running.await), 1.0);
    assert!(
        stage
            .scrape()
            .contains("patchlight_abandoned_total{stage=\"queue\"} 0")
    );
}

#[tokio::test]
async fn stopping_at_once_refuses_background_too() {
    let stage = stage(1, 8);
    let running = stage.submit(1.0).await;
    stage.next_batch();
    let waiting = stage.submit_in_background(10.0).await;
    stage.batcher.refuse_waiting();
    assert_eq!(waiting.await.unwrap().unwrap_err(), Error::Draining);
    stage.let_run(1);
    assert_eq!(logit(running.await), 1.0);
}

#[tokio::test]
async fn the_last_handle_lets_the_worker_finish_what_waits_and_end() {
    let (stage, workers) = stage_and_workers(1, 1, 8);
    let first = stage.submit(1.0).await;
    let second = stage.submit(2.0).await;
    let Stage { batcher, leave, .. } = stage;
    drop(batcher);
    leave.send(()).unwrap();
    leave.send(()).unwrap();
    assert!(first.await.unwrap().is_ok());
    assert!(second.await.unwrap().is_ok());
    tokio::task::spawn_blocking(|| workers.join())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_engine_that_only_fails_is_made_anew_once_then_the_alarm_is_rung() {
    let stage = stage(1, 8);
    for rebuilt in [true, false] {
        for _ in 0..3 {
            stage.let_run(1);
            let failed = stage.submit(-1.0).await;
            assert_eq!(stage.next_batch(), [-1.0]);
            assert_eq!(failed.await.unwrap().unwrap_err(), Error::Inference);
        }
        if rebuilt {
            assert!(stage.next_batch().is_empty(), "it is made anew");
        }
    }
    stage.alarm.rung().await;
    // Nobody is left waiting for an engine that is no more.
    let late = stage.submit(1.0).await.await.unwrap();
    assert_eq!(late.unwrap_err(), Error::Draining);
}

#[tokio::test]
async fn an_engine_that_was_made_anew_and_answers_is_trusted_again() {
    let stage = stage(1, 8);
    for _ in 0..2 {
        for _ in 0..3 {
            stage.let_run(1);
            let failed = stage.submit(-1.0).await;
            assert_eq!(stage.next_batch(), [-1.0]);
            assert_eq!(failed.await.unwrap().unwrap_err(), Error::Inference);
        }
        assert!(stage.next_batch().is_empty(), "it is made anew");
        stage.let_run(1);
        assert_eq!(logit(stage.submit(7.0).await.await), 7.0);
        assert_eq!(stage.next_batch(), [7.0]);
    }
}
