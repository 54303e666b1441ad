use std::io;

use futures_util::stream;

use super::*;
use crate::service::{client::Client, upload_budget::UploadBudget};

const LIMITS: RequestLimits = RequestLimits {
    max_body: 10,
    upload_timeout: Duration::from_secs(5),
    request_timeout: Duration::from_secs(5),
};

/// Room for a body under these limits, of which a client has announced so many bytes.
fn upload(budget: &UploadBudget, limits: RequestLimits, content_length: Option<u64>) -> Upload {
    let memory = budget.open(Client::Unknown, 0, limits.max_body).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    Upload::new(memory, content_length, limits, metrics)
}

fn whole(body: &'static str) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter([Ok(Bytes::from_static(body.as_bytes()))])
}

async fn receive(body: &'static str) -> Result<Bytes> {
    let mut upload = upload(&UploadBudget::new(1 << 20), LIMITS, None);
    upload.receive(whole(body), false).await
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken() {
    assert_eq!(receive("0123456789").await.unwrap(), "0123456789");
}

#[tokio::test]
async fn one_byte_more_is_refused() {
    let error = receive("0123456789a").await.unwrap_err();
    assert_eq!(error, Error::BodyTooLarge { limit: 10 });
}

#[tokio::test]
async fn an_announced_giant_is_refused_before_it_is_read() {
    let mut upload = upload(&UploadBudget::new(10), LIMITS, Some(11));
    let untouched = stream::poll_fn(|_| -> std::task::Poll<Option<io::Result<Bytes>>> {
        panic!("a refused body is not read")
    });
    let error = upload.receive(untouched, false).await.unwrap_err();
    assert_eq!(error, Error::BodyTooLarge { limit: 10 });
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_times_out() {
    let mut upload = upload(&UploadBudget::new(10), LIMITS, None);
    let never = stream::pending::<io::Result<Bytes>>();
    let error = upload.receive(never, false).await.unwrap_err();
    assert!(matches!(error, Error::UploadTooSlow { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up_before_all_its_time_is_over() {
    const LONG: RequestLimits = RequestLimits {
        max_body: 1 << 20,
        upload_timeout: Duration::from_secs(3600),
        request_timeout: Duration::from_secs(5),
    };
    /// Pieces of so many bytes, one a second.
    async fn outcome(bytes: usize, pieces: usize) -> Result<usize> {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, io::Error>(Bytes::from(vec![0; bytes]))
        });
        let mut upload = upload(&UploadBudget::new(LONG.max_body), LONG, None);
        let received = upload.receive(pieces, false).await;
        received.map(|bytes| bytes.len())
    }
    // A minute at the slowest pace, and at half of it.
    let (slowest, minute) = (usize::try_from(MIN_BYTES_PER_SECOND).unwrap(), 60);
    assert_eq!(outcome(slowest, minute).await.unwrap(), slowest * minute);
    let began = Instant::now();
    let error = outcome(slowest / 2, minute).await.unwrap_err();
    assert!(matches!(error, Error::UploadTooSlow { .. }), "{error}");
    // 10 s and half a second for each second until then.
    assert_eq!(began.elapsed().as_secs(), 19);
}

#[tokio::test]
async fn a_body_takes_room_as_it_comes_and_a_compressed_one_for_what_it_may_become() {
    let nine = UploadBudget::new(9);
    let receive = async |body, is_compressed| {
        let mut upload = upload(&nine, LIMITS, None);
        upload.receive(whole(body), is_compressed).await
    };
    let error = receive("0123456789", false).await.unwrap_err();
    assert!(matches!(error, Error::Overloaded { .. }), "{error}");
    receive("01234", false).await.unwrap();
    let error = receive("01234", true).await.unwrap_err();
    assert!(matches!(error, Error::Overloaded { .. }), "{error}");
}
