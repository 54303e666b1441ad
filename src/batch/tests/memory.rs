//! A device that has no memory for large batches.

use std::sync::atomic::Ordering;

use patchlight_engine::Device;

use super::{
    super::*,
    harness::{FakeDevice, Harness, Submitted, harness_of, logit},
};

/// A batch of these, all of which wait before it runs, on a device with memory for so many.
async fn batch_of(memory: usize, tags: &[f32]) -> (Harness, Vec<Submitted>, FakeDevice) {
    let device = FakeDevice::new(Device::Cuda(0));
    device.memory.store(memory, Ordering::Relaxed);
    let (harness, _) = harness_of(std::slice::from_ref(&device), 8, 32);
    let mut requests = vec![harness.submit(0.5).await];
    assert_eq!(harness.next_batch(), [0.5]);
    for &tag in tags {
        requests.push(harness.submit(tag).await);
    }
    harness.let_run(1);
    (harness, requests, device)
}

async fn expect(requests: Vec<Submitted>, tags: &[f32]) {
    for (request, &tag) in requests.into_iter().zip([&[0.5], tags].concat().iter()) {
        assert_eq!(logit(request.await), tag);
    }
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_halved_until_it_does_and_all_are_answered() {
    let tags = [1.0, 2.0, 3.0, 4.0, 5.0];
    let (harness, requests, _) = batch_of(2, &tags).await;
    harness.let_run(20);
    assert_eq!(harness.next_batch(), tags);
    for batch in [&[1.0, 2.0, 3.0][..], &[1.0, 2.0], &[3.0], &[4.0, 5.0]] {
        assert_eq!(harness.next_batch(), batch);
    }
    expect(requests, &tags).await;
    let scrape = harness.scrape();
    assert!(scrape.contains("patchlight_batches_out_of_memory_total 2"));
    assert!(scrape.contains("patchlight_inference_failures_total 0"));
}

#[tokio::test]
async fn what_did_not_fit_is_not_tried_again_at_once() {
    let (harness, requests, _) = batch_of(2, &[1.0, 2.0, 3.0, 4.0]).await;
    harness.let_run(3);
    assert_eq!(harness.next_batch().len(), 4);
    assert_eq!(harness.next_batch().len(), 2);
    // Comes while the halves run.
    assert_eq!(harness.next_batch().len(), 2);
    expect(requests, &[1.0, 2.0, 3.0, 4.0]).await;
    assert_eq!(harness.batcher.devices()[0].batch_limit, 2);
    let mut later = vec![harness.submit(6.0).await];
    assert_eq!(harness.next_batch(), [6.0]);
    for tag in [7.0, 8.0, 9.0] {
        later.push(harness.submit(tag).await);
    }
    harness.let_run(3);
    assert_eq!(harness.next_batch(), [7.0, 8.0]);
    assert_eq!(harness.next_batch(), [9.0]);
    for request in later {
        request.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_batch_is_halved_is_not_run_again() {
    let (harness, mut requests, _) = batch_of(1, &[1.0, 2.0]).await;
    assert_eq!(harness.next_batch(), [1.0, 2.0]);
    let abandoned = requests.pop().unwrap();
    abandoned.abort();
    assert!(abandoned.await.is_err());
    harness.let_run(2);
    assert_eq!(harness.next_batch(), [1.0]);
    expect(requests, &[1.0]).await;
    assert_eq!(harness.batcher.load().running, 0);
}

#[tokio::test]
async fn a_single_image_that_does_not_fit_is_an_error_that_says_so() {
    let (harness, requests, device) = batch_of(2, &[]).await;
    expect(requests, &[]).await;
    device.memory.store(0, Ordering::Relaxed);
    harness.let_run(1);
    let failed = harness.submit(1.0).await.await.unwrap().unwrap_err();
    assert_eq!(failed, Error::OutOfMemory);
    assert_eq!((failed.code(), failed.status()), ("out_of_memory", 503));
    device.memory.store(1, Ordering::Relaxed);
    harness.let_run(1);
    assert_eq!(logit(harness.submit(2.0).await.await), 2.0);
}

#[tokio::test]
async fn a_bad_input_in_a_halved_batch_still_fails_alone() {
    let tags = [1.0, 2.0, -3.0, 4.0];
    let (harness, requests, _) = batch_of(2, &tags).await;
    harness.let_run(20);
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.unwrap());
    }
    let failed: Vec<bool> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, false, true, false]);
    assert_eq!(answers[3].as_ref().unwrap_err(), &Error::Inference);
}
