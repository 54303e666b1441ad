//! The batcher with a fake engine.

mod devices;
mod harness;
mod memory;
mod worker_panic;

use self::harness::{Harness, harness, harness_with_shared_device, harness_with_workers, logit};
use super::*;

#[tokio::test]
async fn a_request_that_finds_the_engine_idle_runs_alone_at_once() {
    let harness = harness(8, 8);
    let request = harness.submit(1.0).await;
    assert_eq!(harness.next_batch(), [1.0]);
    harness.let_run(1);
    assert_eq!(logit(request.await), 1.0);
}

#[tokio::test]
async fn what_arrives_meanwhile_forms_the_next_batch_and_answers_find_their_requests() {
    let harness = harness(8, 8);
    let mut requests = vec![harness.submit(1.0).await];
    assert_eq!(harness.next_batch(), [1.0]);
    for tag in [2.0, 3.0, 4.0] {
        requests.push(harness.submit(tag).await);
    }
    harness.let_run(2);
    assert_eq!(harness.next_batch(), [2.0, 3.0, 4.0]);
    for (request, tag) in requests.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        assert_eq!(logit(request.await), tag);
    }
}

#[tokio::test]
async fn an_idle_engine_takes_what_comes_while_another_runs() {
    let (harness, workers) = harness_with_workers(2, 8, 8);
    let mut requests = vec![harness.submit(1.0).await];
    assert_eq!(harness.next_batch(), [1.0]);
    requests.push(harness.submit(2.0).await);
    assert_eq!(harness.next_batch(), [2.0]);
    assert_eq!(harness.batcher.load().running, 2);
    // Both are busy; whichever is free first takes these together.
    for tag in [3.0, 4.0] {
        requests.push(harness.submit(tag).await);
    }
    assert_eq!(harness.batcher.load().waiting, 2);
    harness.let_run(1);
    assert_eq!(harness.next_batch(), [3.0, 4.0]);
    harness.let_run(2);
    let mut runs = Vec::new();
    for (request, tag) in requests.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        let inference = request.await.unwrap().unwrap();
        assert_eq!(inference.output.logits, [tag]);
        runs.push(inference.batch);
    }
    // Every run has a number of its own, whichever worker ran it.
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), 3);
    let Harness { batcher, .. } = harness;
    drop(batcher);
    tokio::task::spawn_blocking(|| workers.join())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_comes_while_a_shared_device_is_busy_goes_together() {
    let harness = harness_with_shared_device(8, Duration::from_secs(60));
    let mut requests = vec![harness.submit(1.0).await];
    assert_eq!(harness.next_batch(), [1.0]);
    for tag in [2.0, 3.0] {
        requests.push(harness.submit(tag).await);
    }
    // The other engine leaves them to whichever is free when the device is.
    assert_eq!(harness.batcher.load().waiting, 2);
    harness.let_run(2);
    assert_eq!(harness.next_batch(), [2.0, 3.0]);
    for (request, tag) in requests.into_iter().zip([1.0, 2.0, 3.0]) {
        assert_eq!(logit(request.await), tag);
    }
}

#[tokio::test]
async fn a_full_batch_stands_in_line_behind_the_one_that_runs() {
    let harness = harness_with_shared_device(2, Duration::from_secs(60));
    let mut requests = vec![harness.submit(1.0).await];
    assert_eq!(harness.next_batch(), [1.0]);
    for tag in [2.0, 3.0] {
        requests.push(harness.submit(tag).await);
    }
    assert_eq!(harness.next_batch(), [2.0, 3.0]);
    harness.let_run(2);
    for (request, tag) in requests.into_iter().zip([1.0, 2.0, 3.0]) {
        assert_eq!(logit(request.await), tag);
    }
}

#[tokio::test]
async fn a_reservation_lengthens_the_predicted_wait_until_dropped() {
    let harness = harness(1, 8);
    let request = harness.submit(1.0).await;
    harness.next_batch();
    harness.let_run(1);
    assert_eq!(logit(request.await), 1.0);
    while harness.batcher.load().running > 0 {
        tokio::task::yield_now().await;
    }
    let idle = harness.batcher.load().predicted_wait;
    assert!(!idle.is_zero());
    let coming = [(); 3].map(|()| harness.batcher.reserve());
    let load = harness.batcher.load();
    assert_eq!((load.waiting, load.reserved), (0, 3));
    // Batches of one: these three, and the new request.
    let rounding = Duration::from_nanos(10);
    assert!(load.predicted_wait.abs_diff(4 * idle) < rounding);
    drop(coming);
    assert_eq!(harness.batcher.load().predicted_wait, idle);
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let harness = harness(1, 2);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let first = harness.submit(2.0).await;
    let second = harness.submit(3.0).await;
    let refused = harness.submit(4.0).await.await.unwrap();
    assert!(matches!(refused, Err(Error::Overloaded { .. })));
    assert!(
        harness
            .scrape()
            .contains("patchlight_shed_total{reason=\"queue_full\"} 1")
    );
    harness.let_run(3);
    for request in [running, first, second] {
        request.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_counted_and_never_run() {
    let harness = harness(8, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let abandoned = harness.submit(2.0).await;
    let staying = harness.submit(3.0).await;
    abandoned.abort();
    assert!(abandoned.await.is_err());
    assert_eq!(harness.batcher.load().waiting, 1);
    harness.let_run(2);
    assert_eq!(harness.next_batch(), [3.0]);
    assert_eq!(logit(staying.await), 3.0);
    assert_eq!(logit(running.await), 1.0);
    assert!(
        harness
            .scrape()
            .contains("patchlight_abandoned_total{stage=\"queue\"} 1")
    );
}

#[tokio::test]
async fn a_client_that_leaves_a_running_batch_is_counted_there() {
    let harness = harness(8, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    running.abort();
    assert!(running.await.is_err());
    assert!(
        harness
            .scrape()
            .contains("patchlight_abandoned_total{stage=\"inference\"} 1")
    );
    harness.let_run(1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_queue_is_answered_when_it_passes_not_when_the_batch_ends() {
    let harness = harness(8, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let given = Duration::from_millis(250);
    let before = tokio::time::Instant::now();
    let request = harness.batcher.new_request(Deadline::after(given));
    let outcome = harness.batcher.run(vec![2.0], request).await;
    assert_eq!(
        outcome.unwrap_err(),
        Error::DeadlinePassed { deadline: given }
    );
    assert_eq!(before.elapsed(), given);
    assert_eq!(harness.batcher.load().waiting, 0, "it left the queue");
    // The clock that stands still jumps to the other deadline while the engine answers, so its
    // request is let go unasked.
    running.abort();
    harness.let_run(1);
}

#[tokio::test]
async fn a_failing_input_fails_alone() {
    let harness = harness(8, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let good = harness.submit(2.0).await;
    let bad = harness.submit(-3.0).await;
    let other = harness.submit(4.0).await;
    // The first batch, the failing one, and its three inputs one by one.
    harness.let_run(5);
    assert_eq!(logit(running.await), 1.0);
    assert_eq!(logit(good.await), 2.0);
    assert_eq!(bad.await.unwrap().unwrap_err(), Error::Inference);
    assert_eq!(logit(other.await), 4.0);
}

#[tokio::test]
async fn a_panicking_engine_is_a_failed_run_and_the_next_one_works() {
    let harness = harness(8, 8);
    harness.let_run(2);
    assert_eq!(
        harness.submit(0.0).await.await.unwrap().unwrap_err(),
        Error::Inference
    );
    assert_eq!(logit(harness.submit(5.0).await.await), 5.0);
}

#[tokio::test]
async fn an_output_that_is_no_number_fails_only_its_own_request() {
    let harness = harness(8, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let infinite = harness.submit(f32::INFINITY).await;
    let finite = harness.submit(2.0).await;
    harness.let_run(2);
    assert_eq!(infinite.await.unwrap().unwrap_err(), Error::NotFinite);
    assert_eq!(logit(finite.await), 2.0);
    assert_eq!(logit(running.await), 1.0);
}

#[tokio::test]
async fn closing_finishes_what_waits_and_refuses_new_requests() {
    let harness = harness(8, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let waiting = harness.submit(2.0).await;
    harness.batcher.close();
    assert_eq!(
        harness.submit(3.0).await.await.unwrap().unwrap_err(),
        Error::Draining
    );
    harness.let_run(2);
    assert_eq!(logit(running.await), 1.0);
    assert_eq!(logit(waiting.await), 2.0);
}

#[tokio::test]
async fn stopping_at_once_refuses_what_waits_and_finishes_what_runs() {
    let harness = harness(8, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let waiting = harness.submit(2.0).await;
    harness.batcher.refuse_waiting();
    assert_eq!(waiting.await.unwrap().unwrap_err(), Error::Draining);
    harness.let_run(1);
    assert_eq!(logit(running.await), 1.0);
}

#[tokio::test]
async fn background_runs_when_no_request_waits_and_comes_after_all_that_do() {
    let harness = harness(1, 8);
    let running = harness.submit(1.0).await;
    assert_eq!(harness.next_batch(), [1.0]);
    let mut submitted = vec![running];
    for tag in [10.0, 11.0] {
        submitted.push(harness.submit_in_background(tag).await);
    }
    for tag in [2.0, 3.0] {
        submitted.push(harness.submit(tag).await);
    }
    let load = harness.batcher.load();
    // Background items do not add to the predicted wait.
    assert_eq!((load.waiting, load.background), (2, 2));
    for expected in [2.0, 3.0, 10.0, 11.0] {
        harness.let_run(1);
        assert_eq!(harness.next_batch(), [expected]);
    }
    harness.let_run(1);
    for (submitted, tag) in submitted.into_iter().zip([1.0, 10.0, 11.0, 2.0, 3.0]) {
        assert_eq!(logit(submitted.await), tag);
    }
}

#[tokio::test]
async fn a_cancelled_background_item_leaves_the_queue_and_is_no_client_that_left() {
    let harness = harness(1, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let cancelled = harness.submit_in_background(10.0).await;
    cancelled.abort();
    assert!(cancelled.await.is_err());
    assert_eq!(harness.batcher.load().background, 0);
    harness.let_run(1);
    assert_eq!(logit(running.await), 1.0);
    assert!(
        harness
            .scrape()
            .contains("patchlight_abandoned_total{stage=\"queue\"} 0")
    );
}

#[tokio::test]
async fn stopping_at_once_refuses_background_too() {
    let harness = harness(1, 8);
    let running = harness.submit(1.0).await;
    harness.next_batch();
    let waiting = harness.submit_in_background(10.0).await;
    harness.batcher.refuse_waiting();
    assert_eq!(waiting.await.unwrap().unwrap_err(), Error::Draining);
    harness.let_run(1);
    assert_eq!(logit(running.await), 1.0);
}

#[tokio::test]
async fn the_last_handle_lets_the_worker_finish_what_waits_and_end() {
    let (harness, workers) = harness_with_workers(1, 1, 8);
    let first = harness.submit(1.0).await;
    let second = harness.submit(2.0).await;
    let Harness {
        batcher, permits, ..
    } = harness;
    drop(batcher);
    permits.send(()).unwrap();
    permits.send(()).unwrap();
    assert!(first.await.unwrap().is_ok());
    assert!(second.await.unwrap().is_ok());
    tokio::task::spawn_blocking(|| workers.join())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_engine_that_only_fails_is_rebuilt_once_then_ends_the_process() {
    let harness = harness(1, 8);
    for rebuilt in [true, false] {
        for _ in 0..3 {
            harness.let_run(1);
            let failed = harness.submit(-1.0).await;
            assert_eq!(harness.next_batch(), [-1.0]);
            assert_eq!(failed.await.unwrap().unwrap_err(), Error::Inference);
        }
        if rebuilt {
            assert!(harness.next_batch().is_empty(), "it is rebuilt");
        }
    }
    harness.fatal.raised().await;
    // No request is left waiting for the failed engine.
    let late = harness.submit(1.0).await.await.unwrap();
    assert_eq!(late.unwrap_err(), Error::Draining);
}

#[tokio::test]
async fn a_rebuilt_engine_that_answers_is_trusted_again() {
    let harness = harness(1, 8);
    for _ in 0..2 {
        for _ in 0..3 {
            harness.let_run(1);
            let failed = harness.submit(-1.0).await;
            assert_eq!(harness.next_batch(), [-1.0]);
            assert_eq!(failed.await.unwrap().unwrap_err(), Error::Inference);
        }
        assert!(harness.next_batch().is_empty(), "it is rebuilt");
        harness.let_run(1);
        assert_eq!(logit(harness.submit(7.0).await.await), 7.0);
        assert_eq!(harness.next_batch(), [7.0]);
    }
}
