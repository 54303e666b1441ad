use std::io;

use futures_util::stream;

use super::*;
use crate::{
    Error,
    service::tests::{KEY, MIB, service},
};

const QUICK: Duration = Duration::from_millis(1);

/// Longer than any request may take.
const HOUR: Duration = Duration::from_secs(3600);

fn once(burst: u32) -> String {
    format!("{KEY} rate=1/h burst={burst}")
}

fn whole(body: &'static str) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter([Ok(Bytes::from_static(body.as_bytes()))])
}

#[tokio::test]
async fn a_caller_without_a_key_that_is_in_force_is_not_known() {
    let service = service(KEY, MIB, QUICK);
    for presented in [None, Some("fedcba9876543210"), Some("")] {
        let outcome = service.authenticate(presented.map(str::as_bytes));
        assert_eq!(outcome.unwrap_err(), Error::Unauthorized);
    }
    let known = service.authenticate(Some(KEY.as_bytes())).unwrap();
    assert_ne!(known.owner(), crate::store::Owner::ANYONE);
    let open = Service {
        keys: None,
        ..service
    };
    let anyone = open.authenticate(None).unwrap();
    assert_eq!(anyone.owner(), crate::store::Owner::ANYONE);
}

#[tokio::test]
async fn the_quota_is_asked_before_time_and_time_before_memory() {
    // There is neither time, since a request is ahead and takes an hour, nor memory.
    let service = service(&once(1), 0, HOUR);
    let batcher = service.models.default_model().batcher.clone();
    let ahead = batcher.reserve();
    let Error::Overloaded { retry_after } = service.admit_default(None).unwrap_err() else {
        panic!("there is no time");
    };
    assert!(
        retry_after > HOUR - Duration::from_secs(10),
        "{retry_after:?}"
    );
    assert_eq!(service.shed("predicted_wait"), 1);
    assert_eq!(service.shed("upload_memory"), 0);
    // The quota was charged all the same, and is now what is said first.
    let error = service.admit_default(None).unwrap_err();
    assert!(matches!(error, Error::QuotaExceeded { .. }), "{error}");
    assert_eq!(service.shed("predicted_wait"), 1);
    drop(ahead);
}

#[tokio::test]
async fn where_only_memory_is_short_it_is_memory_that_is_named() {
    let service = service(KEY, MIB - 1, QUICK);
    let error = service.admit_default(None).unwrap_err();
    assert!(matches!(error, Error::Overloaded { .. }), "{error}");
    assert_eq!(service.shed("upload_memory"), 1);
    assert_eq!(service.shed("predicted_wait"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_can_only_shorten_its_time() {
    let service = service(KEY, MIB, QUICK);
    let left = |timeout: Option<Duration>| {
        let admitted = service.admit_default(timeout).unwrap();
        admitted.deadline().left()
    };
    let longest = Duration::from_secs(10);
    assert_eq!(left(None), longest);
    assert_eq!(
        left(Some(Duration::from_millis(2500))),
        Duration::from_millis(2500)
    );
    assert_eq!(left(Some(HOUR)), longest);
    let mut admitted = service.admit_default(None).unwrap();
    admitted.shorten(HOUR);
    assert_eq!(admitted.deadline().left(), longest);
    admitted.shorten(QUICK);
    assert_eq!(admitted.deadline().left(), QUICK);
}

#[tokio::test]
async fn others_wait_for_a_request_only_once_its_body_is_there() {
    let service = service(KEY, MIB, QUICK);
    let batcher = service.models.default_model().batcher.clone();
    let mut admitted = service.admit_default(None).unwrap();
    assert_eq!(batcher.load().reserved, 0);
    assert_eq!(admitted.receive(whole("abc"), false).await.unwrap(), "abc");
    assert_eq!(batcher.load().reserved, 1);
    drop(admitted);
    assert_eq!(batcher.load().reserved, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_took_all_the_time_is_too_late() {
    let service = service(KEY, MIB, QUICK);
    let second = Duration::from_secs(1);
    let mut admitted = service.admit_default(Some(second)).unwrap();
    let slow = stream::once(async move {
        tokio::time::sleep(second).await;
        Ok::<_, io::Error>(Bytes::from_static(b"abc"))
    });
    let error = admitted.receive(slow, false).await.unwrap_err();
    assert_eq!(error, Error::DeadlinePassed { deadline: second });
}
