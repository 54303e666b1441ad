use hyper::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::server::requests::Running;

const PACE: Pace = Pace {
    head: Duration::from_secs(10),
    write: Duration::from_secs(30),
};

fn pair() -> (DuplexStream, Paced<DuplexStream>, Arc<Requests>) {
    let (client, socket) = duplex(64);
    let requests = Arc::new(Requests::new());
    let paced = Paced::new(socket, PACE, Arc::clone(&requests));
    (client, paced, requests)
}

async fn read_on(paced: &mut Paced<DuplexStream>) -> io::Error {
    let mut buffer = [0; 64];
    loop {
        match paced.read(&mut buffer).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(why) => return why,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_given_up() {
    let (_client, mut paced, _) = pair();
    let began = Instant::now();
    assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed().as_secs(), PACE.head.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_drip_of_bytes_buys_no_time() {
    let (mut client, mut paced, _) = pair();
    let began = Instant::now();
    tokio::spawn(async move {
        while client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() <= PACE.head + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn rest_between_requests_is_no_dawdling_but_a_begun_head_is() {
    let (mut client, mut paced, requests) = pair();
    let head = b"GET / HTTP/1.1\r\n\r\n";
    client.write_all(head).await.unwrap();
    paced.read_exact(&mut [0; 18]).await.unwrap();
    drop(requests.begin(Version::HTTP_11));
    let mut buffer = [0; 64];
    let resting = tokio::time::timeout(10 * PACE.head, paced.read(&mut buffer)).await;
    assert!(resting.is_err(), "it still waits");
    client.write_all(b"GET").await.unwrap();
    let began = Instant::now();
    assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed().as_secs(), PACE.head.as_secs());
}

#[tokio::test(start_paused = true)]
async fn http_2_is_left_to_the_clock_of_its_requests_once_it_has_said_hello() {
    let (mut client, mut paced, _) = pair();
    client.write_all(PREFACE).await.unwrap();
    let waiting = tokio::time::timeout(10 * PACE.head, read_on(&mut paced)).await;
    assert!(waiting.is_err(), "it still waits");
}

#[tokio::test(start_paused = true)]
async fn half_a_hello_is_no_hello() {
    let (mut client, mut paced, _) = pair();
    client.write_all(&PREFACE[..5]).await.unwrap();
    assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
    let (mut client, mut paced, _) = pair();
    let slow = tokio::spawn(async move {
        let mut byte = [0; 16];
        for _ in 0..8 {
            sleep(PACE.write / 2).await;
            client.read_exact(&mut byte).await.unwrap();
        }
        client
    });
    paced.write_all(&[0; 64 + 7 * 16]).await.unwrap();
    let _client = slow.await.unwrap();
    let why = paced.write_all(&[0; 1024]).await.unwrap_err();
    assert_eq!(why.kind(), io::ErrorKind::TimedOut);
}

/// A client that has asked and ended its side; the server makes its answer.
async fn half_closed(version: Version) -> (DuplexStream, Paced<DuplexStream>, Arc<Running>) {
    let (mut client, mut paced, requests) = pair();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    paced.read_exact(&mut [0; 18]).await.unwrap();
    client.shutdown().await.unwrap();
    (client, paced, requests.begin(version))
}

/// Flushes as hyper does whenever it has something to do, until an error.
async fn flush_on(paced: &mut Paced<DuplexStream>) -> io::Error {
    std::future::poll_fn(|context| match Pin::new(&mut *paced).poll_flush(context) {
        Poll::Ready(Err(why)) => Poll::Ready(why),
        _ => Poll::Pending,
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_is_asked_whether_it_is_there_and_gets_its_answer() {
    let (mut client, mut paced, running) = half_closed(Version::HTTP_11).await;
    let answered = tokio::time::timeout(ASK_EVERY * 3 / 2, flush_on(&mut paced)).await;
    assert!(answered.is_err(), "the client is there");
    running.answered();
    paced.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // Nobody asks any more.
    let written = tokio::time::timeout(10 * ASK_EVERY, flush_on(&mut paced)).await;
    assert!(written.is_err());
    assert_eq!(
        paced.read(&mut [0; 8]).await.unwrap(),
        0,
        "then its end is seen"
    );
    drop(paced);
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    let interim = str::from_utf8(INTERIM).unwrap();
    let expected = format!("{interim}HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(str::from_utf8(&said).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_gone_is_noticed_while_its_answer_is_made() {
    let (client, mut paced, _running) = half_closed(Version::HTTP_11).await;
    drop(client);
    let began = Instant::now();
    let why = flush_on(&mut paced).await;
    assert_eq!(why.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(began.elapsed(), ASK_EVERY);
}

#[tokio::test(start_paused = true)]
async fn http_1_0_knows_no_interim_answers() {
    let (mut client, mut paced, _running) = half_closed(Version::HTTP_10).await;
    let making = tokio::time::timeout(10 * ASK_EVERY, flush_on(&mut paced)).await;
    assert!(making.is_err());
    drop(paced);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_an_answer_is_made_is_kept_for_later() {
    let (mut client, mut paced, requests) = pair();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    paced.read_exact(&mut [0; 18]).await.unwrap();
    let running = requests.begin(Version::HTTP_11);
    client.write_all(b"GET /next").await.unwrap();
    paced.flush().await.unwrap();
    client.write_all(b" HTTP/1.1\r\n").await.unwrap();
    drop(running);
    let mut next = [0; 20];
    paced.read_exact(&mut next).await.unwrap();
    assert_eq!(&next, b"GET /next HTTP/1.1\r\n");
}
