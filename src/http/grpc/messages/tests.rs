use axum::http::HeaderValue;
use futures_util::TryStreamExt;

use super::*;

const REST: Duration = Duration::from_secs(7);

fn reader(pieces: &[&'static [u8]], encoding: Option<&'static str>) -> Result<MessageReader> {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok::<_, BodyError>(*piece))
        .collect();
    let mut headers = HeaderMap::new();
    if let Some(encoding) = encoding {
        headers.insert(ENCODING, HeaderValue::from_static(encoding));
    }
    MessageReader::new(&headers, Body::from_stream(stream::iter(pieces)))
}

async fn next(reader: &mut MessageReader) -> Option<Vec<u8>> {
    let head = reader.head(REST).await.unwrap()?;
    let pieces: Vec<Bytes> = reader.content(head).try_collect().await.unwrap();
    Some(pieces.concat())
}

#[tokio::test]
async fn messages_are_found_wherever_the_body_is_cut() {
    let whole = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01d";
    for cut in 0..whole.len() {
        for second in cut..whole.len() {
            let pieces = [&whole[..cut], &whole[cut..second], &whole[second..]];
            let mut reader = reader(&pieces, None).unwrap();
            assert_eq!(next(&mut reader).await.unwrap(), b"abc");
            assert_eq!(next(&mut reader).await.unwrap(), b"");
            assert_eq!(next(&mut reader).await.unwrap(), b"d");
            assert_eq!(next(&mut reader).await, None);
        }
    }
}

#[tokio::test]
async fn a_call_that_ends_within_a_message_is_an_error() {
    let mut within_head = reader(&[b"\0\0\0"], None).unwrap();
    let error = within_head.head(REST).await.unwrap_err();
    assert!(error.to_string().contains("within the head"), "{error}");
    let mut within = reader(&[b"\0\0\0\0\x05abc"], None).unwrap();
    let head = within.head(REST).await.unwrap().unwrap();
    let content: std::result::Result<Vec<Bytes>, _> = within.content(head).try_collect().await;
    assert!(matches!(content, Err(ContentError::End)));
}

#[tokio::test]
async fn a_compressed_message_needs_an_encoding_that_is_read() {
    for encoding in [None, Some("identity")] {
        let mut reader = reader(&[b"\x01\0\0\0\0"], encoding).unwrap();
        assert!(reader.head(REST).await.is_err(), "{encoding:?}");
    }
    let mut known = reader(&[b"\x01\0\0\0\0"], Some("gzip")).unwrap();
    assert!(known.head(REST).await.unwrap().unwrap().is_compressed());
    let unknown = reader(&[], Some("snappy")).unwrap_err();
    assert_eq!(unknown.code(), "unsupported_encoding");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_rests_for_too_long_ends() {
    let silent = stream::pending::<std::result::Result<Bytes, BodyError>>();
    let mut reader = MessageReader::new(&HeaderMap::new(), Body::from_stream(silent)).unwrap();
    let before = Instant::now();
    let error = reader.head(REST).await.unwrap_err();
    assert_eq!(error, Error::UploadTooSlow { limit: REST });
    assert_eq!(before.elapsed(), REST);
}
