use axum::{http::StatusCode, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::*;

const REST: Duration = Duration::from_secs(75);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An HTTP/2 frame (RFC 9113, §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET /` by its numbers in HPACK's table (RFC 7541, appendix A): method, scheme, path.
fn ask(stream: u32) -> Vec<u8> {
    frame(0x1, 0x5, stream, &[0x82, 0x86, 0x84])
}

/// A connection to a server that answers every request with so many bytes; and its end.
fn connect(crowded: bool, length: usize) -> (DuplexStream, JoinHandle<Duration>) {
    let (client, socket) = duplex(1 << 16);
    let page = get(async move || (StatusCode::OK, vec![b'x'; length]));
    let shared = Shared::new(Router::new().route("/", page), REST);
    let info = ConnectionInfo {
        crowded,
        open: 1,
        client: None,
    };
    let ended = tokio::spawn(async move {
        let began = Instant::now();
        let closing = watch::Sender::new(false);
        // How it ends is for the log; here it is when.
        let _ = speak(socket, shared, info, closing.subscribe()).await;
        began.elapsed()
    });
    (client, ended)
}

/// Reads to the end, and acknowledges every ping and the settings: all that a client has to do to
/// look alive. The kinds of the frames that came, with their streams.
async fn stay_alive(mut client: DuplexStream) -> Vec<(u8, u32)> {
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        if client.read_exact(&mut head).await.is_err() {
            return seen;
        }
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        client.read_exact(&mut payload).await.unwrap();
        seen.push((kind, u32::from_be_bytes([s0, s1, s2, s3])));
        let answer = match (kind, flags) {
            (0x4, 0) => frame(0x4, 1, 0, &[]),
            (0x6, 0) => frame(0x6, 1, 0, &payload),
            _ => continue,
        };
        if client.write_all(&answer).await.is_err() {
            return seen;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn http_2_without_a_request_ends_however_it_answers_pings() {
    for (crowded, head) in [(false, HEAD), (true, HEAD_IN_A_CROWD)] {
        let (mut client, ended) = connect(crowded, 10);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(&frame(0x4, 0, 0, &[])).await.unwrap();
        let seen = stay_alive(client).await;
        assert!(seen.contains(&(0x7, 0)), "it says goodbye: {seen:?}");
        assert_eq!(ended.await.unwrap().as_secs(), head.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn http_2_may_rest_after_a_request_as_long_as_http_1() {
    for (crowded, rest) in [(false, REST), (true, HEAD_IN_A_CROWD)] {
        let (mut client, ended) = connect(crowded, 10);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(&frame(0x4, 0, 0, &[])).await.unwrap();
        client.write_all(&ask(1)).await.unwrap();
        let seen = stay_alive(client).await;
        assert!(seen.contains(&(0x1, 1)), "it is answered: {seen:?}");
        assert!(seen.contains(&(0x7, 0)), "it says goodbye: {seen:?}");
        assert_eq!(ended.await.unwrap().as_secs(), rest.as_secs());
    }
}

/// SETTINGS_INITIAL_WINDOW_SIZE of 0: the client wants no byte of any answer.
#[tokio::test(start_paused = true)]
async fn an_http_2_answer_that_is_not_read_ends_its_stream_and_no_other() {
    let (mut client, ended) = connect(false, 100_000);
    client.write_all(PREFACE).await.unwrap();
    let no_window = [0, 4, 0, 0, 0, 0];
    client
        .write_all(&frame(0x4, 0, 0, &no_window))
        .await
        .unwrap();
    client.write_all(&ask(1)).await.unwrap();
    let seen = stay_alive(client).await;
    let reset = seen.iter().position(|&frame| frame == (0x3, 1));
    let goodbye = seen.iter().position(|&frame| frame == (0x7, 0));
    assert!(reset.is_some() && reset < goodbye, "{seen:?}");
    // Its answer was given up, then the connection rested.
    assert_eq!(ended.await.unwrap().as_secs(), (WRITE + REST).as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_half_closes_gets_its_answer() {
    let (mut client, ended) = connect(false, 10);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("xxxxxxxxxx"), "{answer}");
    assert_eq!(ended.await.unwrap(), Duration::ZERO);
}

/// Over a real socket, where only the system knows who is gone.
#[tokio::test]
async fn a_client_that_closes_is_told_from_one_that_half_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Answers when it is told to, and says when nobody waits for that any more.
    let (begun, mut begins) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    let page = get(async move || {
        let (answer, told) = oneshot::channel();
        begun.send(answer).unwrap();
        told.await.unwrap();
        "made"
    });
    let shared = Shared::new(Router::new().route("/", page), REST);
    let closing = watch::Sender::new(false);
    for leaves in [false, true] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let info = ConnectionInfo {
            crowded: false,
            open: 1,
            client: None,
        };
        let shared = shared.clone();
        let serving = tokio::spawn(serve(socket, None, shared, info, closing.subscribe()));
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = begins.recv().await.unwrap();
        if leaves {
            drop(client);
            timeout(Duration::from_secs(60), answer.closed())
                .await
                .expect("the work is dropped");
            assert!(serving.await.unwrap().is_err());
            continue;
        }
        // It waits longer than it takes to be asked whether it is there.
        let waiting = timeout(Duration::from_millis(1300), answer.closed());
        assert!(waiting.await.is_err(), "the work goes on");
        answer.send(()).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        assert!(said.starts_with(interim), "{said}");
        let answer = said.trim_start_matches(interim);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("made"),
            "{said}"
        );
        serving.await.unwrap().unwrap();
    }
}

#[test]
fn the_more_connections_the_fewer_streams_each() {
    let streams = |open, crowded| {
        let client = None;
        ConnectionInfo {
            crowded,
            open,
            client,
        }
        .streams()
    };
    assert_eq!(streams(1, false), 128);
    assert_eq!(streams(16, false), 128);
    assert_eq!(streams(64, false), 32);
    assert_eq!(streams(2000, false), 4);
    assert_eq!(streams(0, false), 128);
    assert_eq!(streams(1, true), 4);
}
