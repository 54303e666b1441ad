use axum::http::HeaderValue;
use futures_util::StreamExt;

use super::*;

const LIMITS: HttpLimits = HttpLimits {
    max_body: 10,
    upload_timeout: Duration::from_secs(5),
    request_timeout: Duration::from_secs(5),
};

fn typed(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
}

async fn read_body(body: Body) -> Result<Bytes> {
    read_within(&UploadBudget::new(1 << 20), HeaderMap::new(), body).await
}

async fn read_within(budget: &UploadBudget, headers: HeaderMap, body: Body) -> Result<Bytes> {
    let mut reservation = budget.open(Client::Unknown, 0, LIMITS.max_body)?;
    let metrics = Metrics::new().unwrap();
    read(&headers, body, LIMITS, &metrics, &mut reservation).await
}

async fn pictures_in(content_type: &'static str, body: &'static str) -> Result<Vec<Bytes>> {
    pictures(&typed(content_type), Bytes::from_static(body.as_bytes())).await
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken() {
    assert_eq!(
        read_body(Body::from("0123456789")).await.unwrap(),
        "0123456789"
    );
}

#[tokio::test]
async fn one_byte_more_is_refused() {
    let why = read_body(Body::from("0123456789a")).await.unwrap_err();
    assert_eq!(why, Error::BodyTooLarge { limit: 10 });
}

#[tokio::test]
async fn an_announced_giant_is_refused_before_it_is_read() {
    let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static("11"))]);
    let outcome = read_within(&UploadBudget::new(10), headers, Body::empty()).await;
    assert_eq!(outcome.unwrap_err(), Error::BodyTooLarge { limit: 10 });
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_times_out() {
    let (sender, receiver) =
        tokio::sync::mpsc::channel::<std::result::Result<Bytes, std::io::Error>>(1);
    let never = Body::new(http_body_util::StreamBody::new(Never(receiver)));
    let why = read_body(never).await.unwrap_err();
    assert!(matches!(why, Error::UploadTooSlow { .. }));
    drop(sender);
}

/// A stream of frames that waits for a channel.
struct Never(tokio::sync::mpsc::Receiver<std::result::Result<Bytes, std::io::Error>>);

impl futures_core::Stream for Never {
    type Item = std::result::Result<hyper::body::Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0
            .poll_recv(cx)
            .map(|item| item.map(|data| data.map(hyper::body::Frame::data)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up_before_all_its_time_is_over() {
    const LONG: HttpLimits = HttpLimits {
        max_body: 1 << 20,
        upload_timeout: Duration::from_secs(3600),
        request_timeout: Duration::from_secs(5),
    };
    /// Pieces of so many bytes, one a second.
    async fn outcome(bytes: usize, pieces: usize) -> Result<usize> {
        let pieces = futures_util::stream::iter(0..pieces);
        let body = Body::from_stream(pieces.then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(vec![0; bytes])
        }));
        let budget = UploadBudget::new(LONG.max_body);
        let mut reservation = budget.open(Client::Unknown, 0, LONG.max_body).unwrap();
        let metrics = Metrics::new().unwrap();
        let headers = HeaderMap::new();
        let read = read(&headers, body, LONG, &metrics, &mut reservation).await;
        read.map(|bytes| bytes.len())
    }
    // A minute at the slowest pace, and at half of it.
    let (slowest, minute) = (usize::try_from(MIN_BYTES_PER_SECOND).unwrap(), 60);
    assert_eq!(outcome(slowest, minute).await.unwrap(), slowest * minute);
    let began = Instant::now();
    let why = outcome(slowest / 2, minute).await.unwrap_err();
    assert!(matches!(why, Error::UploadTooSlow { .. }), "{why}");
    // 10 s and half a second for each second until then.
    assert_eq!(began.elapsed().as_secs(), 19);
}

#[tokio::test]
async fn a_body_takes_room_as_it_comes_and_a_compressed_one_for_what_it_may_become() {
    let nine = UploadBudget::new(9);
    let whole = Body::from("0123456789");
    let why = read_within(&nine, HeaderMap::new(), whole)
        .await
        .unwrap_err();
    assert!(matches!(why, Error::Overloaded { .. }), "{why}");
    let body = || Body::from("01234");
    read_within(&nine, HeaderMap::new(), body()).await.unwrap();
    let coded = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let coded = HeaderMap::from_iter([coded]);
    let why = read_within(&nine, coded, body()).await.unwrap_err();
    assert!(matches!(why, Error::Overloaded { .. }), "{why}");
}

#[tokio::test]
async fn any_other_content_type_is_the_picture_itself() {
    for content_type in [
        "",
        "image/png",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        assert_eq!(pictures_in(content_type, "raw").await.unwrap(), ["raw"]);
    }
}

#[tokio::test]
async fn multipart_parts_come_in_their_order() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\none\r\n\
                --b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ntwo\r\n--b--\r\n";
    assert_eq!(
        pictures_in("multipart/form-data; boundary=b", body)
            .await
            .unwrap(),
        ["one", "two"]
    );
}

#[tokio::test]
async fn an_unknown_part_is_named() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"img\"\r\n\r\none\r\n--b--\r\n";
    let why = pictures_in("multipart/form-data; boundary=b", body)
        .await
        .unwrap_err();
    assert!(why.to_string().contains("`img`"), "{why}");
}

#[tokio::test]
async fn multipart_without_boundary_or_parts_is_malformed() {
    for (content_type, body) in [
        ("multipart/form-data", "x"),
        ("multipart/form-data; boundary=b", "--b--\r\n"),
        ("multipart/form-data; boundary=b", "nothing of the kind"),
    ] {
        let why = pictures_in(content_type, body).await.unwrap_err();
        assert!(matches!(why, Error::MalformedRequest(_)), "{why}");
    }
}

#[tokio::test]
async fn json_takes_base64_and_data_urls() {
    for body in [
        r#"{"image": "cmF3"}"#,
        r#"{"image": "cmF3Lg"}"#,
        r#"{"image": "cmF3Lg=="}"#,
        r#"{"image": "data:image/png;base64,cmF3"}"#,
    ] {
        let found = pictures_in("application/json; charset=utf-8", body)
            .await
            .unwrap();
        assert!(found[0].starts_with(b"raw"));
    }
}

#[tokio::test]
async fn json_of_another_form_says_what_is_expected() {
    for body in [
        "{}",
        "[]",
        r#"{"image": 3}"#,
        r#"{"image": "%%"}"#,
        r#"{"image": ""}"#,
        r#"{"image": "a", "k": 1}"#,
    ] {
        let why = pictures_in("application/json", body).await.unwrap_err();
        assert!(matches!(why, Error::MalformedRequest(_)), "{body}: {why}");
    }
}

#[tokio::test]
async fn an_empty_body_says_how_to_send_one() {
    assert!(
        pictures_in("image/png", "")
            .await
            .unwrap_err()
            .to_string()
            .contains("curl")
    );
}
