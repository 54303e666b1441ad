use hyper::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::server::requests::ActiveRequest;

const TIMEOUTS: IoTimeouts = IoTimeouts {
    header: Duration::from_secs(10),
    write: Duration::from_secs(30),
};

fn pair() -> (DuplexStream, TimeoutStream<DuplexStream>, Arc<RequestCount>) {
    let (client, socket) = duplex(64);
    let requests = Arc::new(RequestCount::new());
    let stream = TimeoutStream::new(socket, TIMEOUTS, Arc::clone(&requests));
    (client, stream, requests)
}

async fn read_to_error(stream: &mut TimeoutStream<DuplexStream>) -> io::Error {
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_times_out() {
    let (_client, mut stream, _) = pair();
    let began = Instant::now();
    assert_eq!(
        read_to_error(&mut stream).await.kind(),
        io::ErrorKind::TimedOut
    );
    assert_eq!(began.elapsed().as_secs(), TIMEOUTS.header.as_secs());
}

#[tokio::test(start_paused = true)]
async fn single_bytes_do_not_extend_the_header_timeout() {
    let (mut client, mut stream, _) = pair();
    let began = Instant::now();
    tokio::spawn(async move {
        while client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(
        read_to_error(&mut stream).await.kind(),
        io::ErrorKind::TimedOut
    );
    assert!(began.elapsed() <= TIMEOUTS.header + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_may_wait_but_a_started_header_may_not() {
    let (mut client, mut stream, requests) = pair();
    let head = b"GET / HTTP/1.1\r\n\r\n";
    client.write_all(head).await.unwrap();
    stream.read_exact(&mut [0; 18]).await.unwrap();
    drop(requests.begin(Version::HTTP_11));
    let mut buffer = [0; 64];
    let resting = tokio::time::timeout(10 * TIMEOUTS.header, stream.read(&mut buffer)).await;
    assert!(resting.is_err(), "it still waits");
    client.write_all(b"GET").await.unwrap();
    let began = Instant::now();
    assert_eq!(
        read_to_error(&mut stream).await.kind(),
        io::ErrorKind::TimedOut
    );
    assert_eq!(began.elapsed().as_secs(), TIMEOUTS.header.as_secs());
}

#[tokio::test(start_paused = true)]
async fn http_2_is_left_to_the_clock_of_its_requests_once_it_has_said_hello() {
    let (mut client, mut stream, _) = pair();
    client.write_all(PREFACE).await.unwrap();
    let waiting = tokio::time::timeout(10 * TIMEOUTS.header, read_to_error(&mut stream)).await;
    assert!(waiting.is_err(), "it still waits");
}

#[tokio::test(start_paused = true)]
async fn half_a_preface_is_no_preface() {
    let (mut client, mut stream, _) = pair();
    client.write_all(&PREFACE[..5]).await.unwrap();
    assert_eq!(
        read_to_error(&mut stream).await.kind(),
        io::ErrorKind::TimedOut
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_times_out_and_a_slow_one_does_not() {
    let (mut client, mut stream, _) = pair();
    let slow = tokio::spawn(async move {
        let mut byte = [0; 16];
        for _ in 0..8 {
            sleep(TIMEOUTS.write / 2).await;
            client.read_exact(&mut byte).await.unwrap();
        }
        client
    });
    stream.write_all(&[0; 64 + 7 * 16]).await.unwrap();
    let _client = slow.await.unwrap();
    let error = stream.write_all(&[0; 1024]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

/// A client that has asked and ended its side; the server makes its answer.
async fn half_closed(
    version: Version,
) -> (
    DuplexStream,
    TimeoutStream<DuplexStream>,
    Arc<ActiveRequest>,
) {
    let (mut client, mut stream, requests) = pair();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 18]).await.unwrap();
    client.shutdown().await.unwrap();
    (client, stream, requests.begin(version))
}

/// Flushes as hyper does whenever it has something to do, until an error.
async fn flush_on(stream: &mut TimeoutStream<DuplexStream>) -> io::Error {
    std::future::poll_fn(|context| match Pin::new(&mut *stream).poll_flush(context) {
        Poll::Ready(Err(error)) => Poll::Ready(error),
        _ => Poll::Pending,
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_is_asked_whether_it_is_there_and_gets_its_answer() {
    let (mut client, mut stream, running) = half_closed(Version::HTTP_11).await;
    let answered = tokio::time::timeout(ASK_EVERY * 3 / 2, flush_on(&mut stream)).await;
    assert!(answered.is_err(), "the client is there");
    running.answered();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // No read is pending any more.
    let on_write = tokio::time::timeout(10 * ASK_EVERY, flush_on(&mut stream)).await;
    assert!(on_write.is_err());
    assert_eq!(
        stream.read(&mut [0; 8]).await.unwrap(),
        0,
        "then its end is seen"
    );
    drop(stream);
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    let interim = str::from_utf8(INTERIM).unwrap();
    let expected = format!("{interim}HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(str::from_utf8(&said).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_gone_is_noticed_while_its_answer_is_made() {
    let (client, mut stream, _running) = half_closed(Version::HTTP_11).await;
    drop(client);
    let began = Instant::now();
    let error = flush_on(&mut stream).await;
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(began.elapsed(), ASK_EVERY);
}

#[tokio::test(start_paused = true)]
async fn http_1_0_knows_no_interim_answers() {
    let (mut client, mut stream, _running) = half_closed(Version::HTTP_10).await;
    let making = tokio::time::timeout(10 * ASK_EVERY, flush_on(&mut stream)).await;
    assert!(making.is_err());
    drop(stream);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_an_answer_is_made_is_kept_for_later() {
    let (mut client, mut stream, requests) = pair();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 18]).await.unwrap();
    let running = requests.begin(Version::HTTP_11);
    client.write_all(b"GET /next").await.unwrap();
    stream.flush().await.unwrap();
    client.write_all(b" HTTP/1.1\r\n").await.unwrap();
    drop(running);
    let mut next = [0; 20];
    stream.read_exact(&mut next).await.unwrap();
    assert_eq!(&next, b"GET /next HTTP/1.1\r\n");
}
