//! A panic that no fence around the engine catches.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use super::{super::*, stage::stage_and_workers};

/// Panics once when a batch worker ends a span, which it does between taking a batch and running it.
struct PanicsInWorker(AtomicBool);

impl Subscriber for PanicsInWorker {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, _: Id) -> bool {
        let in_worker = thread::current().name() == Some("batch");
        assert!(
            !in_worker || self.0.swap(true, Ordering::Relaxed),
            "asked for"
        );
        true
    }
}

#[tokio::test]
async fn a_worker_that_panics_outside_of_its_engine_ends_the_service() {
    let (stage, workers) = stage_and_workers(1, 1, 8);
    let tracing = tracing::subscriber::set_default(PanicsInWorker(AtomicBool::new(false)));
    let failed = stage.submit(1.0).await.await.unwrap();
    assert_eq!(failed.unwrap_err(), Error::Inference);
    drop(tracing);

    stage.alarm.rung().await;
    assert!(stage.alarm.is_rung());
    let late = stage.submit(2.0).await.await.unwrap();
    assert_eq!(late.unwrap_err(), Error::Draining);
    // The thread is gone; waiting for it does not hang or panic.
    tokio::task::spawn_blocking(|| workers.join())
        .await
        .unwrap();
}
