//! Several devices behind one queue, and one that fails.

use std::sync::atomic::Ordering;

use patchlight_engine::Device;

use super::{
    super::*,
    harness::{FakeDevice, harness_of, logit},
};

fn cards(count: u32) -> Vec<FakeDevice> {
    let cards = 0..count;
    cards
        .map(|card| FakeDevice::new(Device::Cuda(card)))
        .collect()
}

fn up(harness: &super::harness::Harness) -> Vec<bool> {
    let devices = harness.batcher.devices();
    devices.iter().map(|device| device.up).collect()
}

#[tokio::test]
async fn while_one_shared_card_is_busy_the_other_takes_what_comes() {
    let shared = |card| FakeDevice {
        shared: Some(Duration::from_secs(60)),
        ..FakeDevice::new(Device::Cuda(card))
    };
    let (first, second) = (shared(0), shared(1));
    let devices = [first.clone(), first, second.clone(), second];
    let (harness, _) = harness_of(&devices, 8, 8);
    assert_eq!(harness.batcher.load().idle, 2);
    let mut requests = Vec::new();
    for tag in [1.0, 2.0] {
        requests.push(harness.submit(tag).await);
        // A worker of a busy card leaves it to one of the idle card, which is woken.
        assert_eq!(harness.next_batch(), [tag]);
    }
    for tag in [3.0, 4.0] {
        requests.push(harness.submit(tag).await);
    }
    assert_eq!(harness.batcher.load().waiting, 2);
    harness.let_run(3);
    assert_eq!(harness.next_batch(), [3.0, 4.0]);
    for (request, tag) in requests.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        assert_eq!(logit(request.await), tag);
    }
}

#[tokio::test]
async fn a_broken_card_costs_no_request_and_the_other_serves_on() {
    let devices = cards(2);
    devices[0].broken.store(true, Ordering::Relaxed);
    let (harness, _) = harness_of(&devices, 1, 64);
    harness.let_run(1000);
    // Whichever card takes a request, it is answered; each failure brings the broken one closer to
    // its end: three, a rebuilt engine, and three more.
    for round in 0.. {
        assert!(round < 10_000, "the card is given up at some time");
        let requests = [harness.submit(1.0).await, harness.submit(2.0).await];
        for (request, tag) in requests.into_iter().zip([1.0, 2.0]) {
            assert_eq!(logit(request.await), tag);
        }
        harness.let_run(4);
        if up(&harness) == [false, true] {
            break;
        }
    }
    assert!(!harness.fatal.is_rung());
    assert_eq!(logit(harness.submit(3.0).await.await), 3.0);
    assert!(
        harness
            .scrape()
            .contains("patchlight_inference_failures_total 0")
    );
}

#[tokio::test]
async fn what_a_broken_card_has_left_of_its_batch_goes_to_the_other() {
    let devices = cards(2);
    let (harness, _) = harness_of(&devices, 32, 64);
    // Both are busy, and neither knows of the batch that waits.
    let mut requests = Vec::new();
    for tag in [1.0, 2.0] {
        requests.push(harness.submit(tag).await);
        harness.next_batch();
    }
    devices[0].broken.store(true, Ordering::Relaxed);
    for tag in 3..=32 {
        requests.push(harness.submit(tag as f32).await);
    }
    harness.let_run(200);
    for (at, request) in requests.into_iter().enumerate() {
        assert_eq!(logit(request.await), at as f32 + 1.0);
    }
    assert!(!harness.fatal.is_rung());
}

#[tokio::test]
async fn an_input_that_fails_on_both_cards_fails() {
    let (harness, _) = harness_of(&cards(2), 8, 8);
    harness.let_run(2);
    let failed = harness.submit(-1.0).await.await.unwrap();
    assert_eq!(failed.unwrap_err(), Error::Inference);
    assert_eq!(
        [harness.next_batch(), harness.next_batch()],
        [[-1.0], [-1.0]]
    );
    assert_eq!(up(&harness), [true, true]);
}

#[tokio::test]
async fn with_the_last_card_the_process_ends() {
    let devices = cards(2);
    for device in &devices {
        device.broken.store(true, Ordering::Relaxed);
    }
    let (harness, _) = harness_of(&devices, 1, 8);
    harness.let_run(100);
    for _ in 0..12 {
        if !harness.fatal.is_rung() {
            assert!(harness.submit(1.0).await.await.unwrap().is_err());
        }
    }
    harness.fatal.raised().await;
    let late = harness.submit(1.0).await.await.unwrap();
    assert_eq!(late.unwrap_err(), Error::Draining);
}

#[tokio::test]
async fn a_card_with_less_memory_has_smaller_batches_alone() {
    let devices = cards(2);
    devices[1].memory.store(1, Ordering::Relaxed);
    let (harness, _) = harness_of(&devices, 4, 64);
    harness.let_run(1000);
    for round in 0.. {
        assert!(round < 10_000, "the small card gets a batch at some time");
        let mut requests = Vec::new();
        for tag in 1..=16 {
            requests.push(harness.submit(tag as f32).await);
        }
        for (tag, request) in (1..).zip(requests) {
            assert_eq!(logit(request.await), tag as f32);
        }
        harness.let_run(32);
        if harness.batcher.devices()[1].batch_limit == 1 {
            break;
        }
    }
    assert_eq!(harness.batcher.devices()[0].batch_limit, 4);
}
