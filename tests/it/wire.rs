//! What comes over a socket from clients that are broken, slow or hostile.

mod raw;

use std::{fs, time::Duration};

use tokio::io::AsyncWriteExt;

use self::raw::{Answer, Raw, ask};
use crate::{
    client::{get, get_with, send},
    process::{Server, models},
};

fn dog() -> Vec<u8> {
    fs::read(models("samples/dog.jpg")).unwrap()
}

fn post(headers: &str) -> String {
    format!("POST /classify HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// RFC 9112, §6: whoever reads the end of a message elsewhere than the proxy before it can be made
/// to take a body for a request.
#[tokio::test]
async fn a_body_whose_end_is_in_doubt_is_refused_or_ends_the_connection() {
    let server = Server::demo();
    let smuggled = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (doubt, headers, body) in [
        (
            "two lengths",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "abcd",
        ),
        ("a list of lengths", "Content-Length: 3, 4\r\n", "abcd"),
        ("a length with a sign", "Content-Length: +3\r\n", "abc"),
        ("a length that is none", "Content-Length: 0x3\r\n", "abc"),
        (
            "a coding after chunked",
            "Transfer-Encoding: chunked, gzip\r\n",
            "0\r\n\r\n",
        ),
        (
            "a coding that is none",
            "Transfer-Encoding: xchunked\r\n",
            "0\r\n\r\n",
        ),
        (
            "a folded header",
            "Transfer-Encoding:\r\n chunked\r\n",
            "0\r\n\r\n",
        ),
        ("space before the colon", "Content-Length : 3\r\n", "abc"),
        (
            "a chunk's length that is none",
            "Transfer-Encoding: chunked\r\n",
            "zz\r\n\r\n",
        ),
        (
            "a chunk's length with a sign",
            "Transfer-Encoding: chunked\r\n",
            "-1\r\n\r\n",
        ),
        (
            "a chunk longer than it says",
            "Transfer-Encoding: chunked\r\n",
            "1\r\nab\r\n0\r\n\r\n",
        ),
        (
            "a chunk's length beyond all bounds",
            "Transfer-Encoding: chunked\r\n",
            "fffffffffffffffff\r\n",
        ),
        (
            "a length and chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        (
            "chunks and a length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
        ),
    ] {
        let request = format!("{}{body}{smuggled}", post(headers));
        let answers = ask(&server, request).await;
        assert_eq!(answers.len(), 1, "{doubt}: {answers:?}");
        assert_eq!(answers[0].status, 400, "{doubt}: {answers:?}");
    }
    // HTTP/1.0 knows no chunks.
    let old = "POST /classify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answers = ask(&server, format!("{old}{smuggled}")).await;
    assert_eq!((answers.len(), answers[0].status), (1, 400));
}

#[tokio::test]
async fn heads_that_are_too_long_or_no_http_are_refused() {
    let server = Server::demo();
    let long = "x".repeat(100 << 10);
    let many = "A: b\r\n".repeat(200);
    for (what, request, expected) in [
        (
            "a long header",
            format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n"),
            vec![431],
        ),
        (
            "many headers",
            format!("GET / HTTP/1.1\r\n{many}\r\n"),
            vec![431],
        ),
        (
            "a long address",
            format!("GET /{long} HTTP/1.1\r\n\r\n"),
            vec![414, 431],
        ),
        ("no HTTP", "EHLO example.org\r\n\r\n".to_owned(), vec![400]),
        (
            "a zero in a header",
            "GET / HTTP/1.1\r\nA: \0\r\n\r\n".to_owned(),
            vec![400],
        ),
        (
            "another version",
            "GET / HTTP/3.7\r\n\r\n".to_owned(),
            vec![400, 505],
        ),
    ] {
        let answers = ask(&server, request).await;
        assert_eq!(answers.len(), 1, "{what}");
        assert!(expected.contains(&answers[0].status), "{what}: {answers:?}");
    }
    assert_eq!(get(&server.address, "/healthz").await.status, 200);
}

/// The answer must be seen by a client that only reads after it has sent everything it can.
#[tokio::test]
async fn whoever_is_refused_unread_still_sees_why() {
    let server = Server::start(&["--max-body", "1MiB"]);
    let body = vec![b'x'; 900 << 10];
    for (request, expected) in [
        ("POST /classify?top_k=0 HTTP/1.1", 400),
        ("POST /nowhere HTTP/1.1", 404),
        ("POST /healthz HTTP/1.1", 405),
    ] {
        let head = format!(
            "{request}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answers = ask(&server, [head.as_bytes(), &body].concat()).await;
        assert_eq!(answers[0].status, expected);
        assert_eq!(
            answers[0].header("content-type"),
            "application/problem+json"
        );
    }
    // 900 KiB of a gigabyte, then nothing more: the answer does not wait for the rest.
    let head = post("Content-Length: 1000000000\r\n");
    let answers = ask(&server, [head.as_bytes(), &body].concat()).await;
    assert_eq!(answers[0].status, 413);
    // A client that asks first is told without being made to send.
    let asking = post("Content-Length: 1000000000\r\nExpect: 100-continue\r\n");
    let answers = ask(&server, asking).await;
    assert_eq!((answers.len(), answers[0].status), (1, 413));
}

#[tokio::test]
async fn chunks_without_end_are_cut_off_at_the_limit() {
    let server = Server::start(&["--max-body", "64KiB"]);
    let mut raw = Raw::connect(&server).await;
    raw.write(post("Transfer-Encoding: chunked\r\n")).await;
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    // Ends when the server has had enough.
    while raw.socket.write_all(chunk.as_bytes()).await.is_ok() && raw.sent < 64 << 20 {
        raw.sent += chunk.len();
        if raw.has_answer().await {
            break;
        }
    }
    let answers = raw.answers().await;
    assert_eq!(answers[0].status, 413, "{answers:?}");
    assert!(raw.sent < 64 << 20, "the server went on reading");
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up_while_others_are_served() {
    let server = Server::start(&["--upload-timeout", "2s"]);
    let mut silent = Raw::connect(&server).await;
    let mut slow_head = Raw::connect(&server).await;
    let mut slow_body = Raw::connect(&server).await;
    slow_body.write(post("Content-Length: 100000\r\n")).await;
    let dripping = async {
        for letter in "GET /healthz HTTP/1.1\r\n".bytes().cycle() {
            if slow_head.socket.write_all(&[letter]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let others = async {
        let dog = send(
            &server.address,
            hyper::Method::POST,
            "/classify",
            &[],
            dog(),
        )
        .await;
        assert_eq!(dog.status, 200);
    };
    let (body, (), _, ()) = tokio::join!(slow_body.answers(), dripping, silent.answers(), others);
    assert_eq!(body[0].status, 408, "{body:?}");
    assert_eq!(body[0].header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn thousands_of_silent_connections_leave_room_for_a_probe() {
    let server = Server::demo();
    let mut silent = Vec::new();
    for _ in 0..2500 {
        match tokio::net::TcpStream::connect(&server.address).await {
            Ok(socket) => silent.push(socket),
            // This process may not open as many files as the server accepts connections.
            Err(_) => break,
        }
    }
    // Room for the probes of this test.
    silent.truncate(silent.len().saturating_sub(8));
    let probe = tokio::time::timeout(Duration::from_secs(60), get(&server.address, "/healthz"));
    assert_eq!(probe.await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_page_from_elsewhere_may_ask_only_if_it_is_named() {
    let server = Server::start(&["--cors-origin", "https://a.example"]);
    let preflight = |origin: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization, traceparent",
            ),
        ];
        let address = server.address.clone();
        async move { send(&address, hyper::Method::OPTIONS, "/classify", &headers, "").await }
    };
    let named = preflight("https://a.example").await;
    assert_eq!(
        named.header("access-control-allow-origin"),
        "https://a.example"
    );
    let allowed = named.header("access-control-allow-headers");
    for name in ["authorization", "traceparent", "tracestate"] {
        assert!(allowed.contains(name), "{name} is missing in {allowed}");
    }
    let other = preflight("https://b.example").await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    let origin = [("origin", "https://a.example")];
    let answer = get_with(&server.address, "/healthz", &origin).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://a.example"
    );

    let closed = Server::demo();
    let answer = get_with(&closed.address, "/healthz", &origin).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_key_that_asks_for_too_much_gets_429_and_others_do_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys = "slow 0123456789abcdef rate=1/h burst=2\nfree fedcba9876543210\n";
    fs::write(file.path(), keys).unwrap();
    let server = Server::start(&["--api-key-file", file.path().to_str().unwrap()]);
    let ask = |key: &'static str| {
        let address = server.address.clone();
        let headers = [("authorization", key)];
        async move { send(&address, hyper::Method::POST, "/classify", &headers, dog()).await }
    };
    for _ in 0..2 {
        assert_eq!(ask("Bearer 0123456789abcdef").await.status, 200);
    }
    let refused = ask("Bearer 0123456789abcdef").await;
    refused.is_problem(429, "quota_exceeded");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3000..=3600).contains(&seconds), "{seconds}");
    assert_eq!(ask("Bearer fedcba9876543210").await.status, 200);
}

/// CVE-2023-44487: streams that are opened and reset at once.
#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_nothing_else() {
    let server = Server::demo();
    let mut raw = Raw::connect(&server).await;
    raw.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.write(frame(0x4, 0, 0, &[])).await;
    // :method GET, :scheme http, :path / by their numbers in HPACK's table.
    let request = [0x82, 0x86, 0x84];
    let mut stream = 1;
    let ended = loop {
        let flood = [
            frame(0x1, 0x5, stream, &request),
            frame(0x3, 0, stream, &8_u32.to_be_bytes()),
        ];
        if raw.socket.write_all(&flood.concat()).await.is_err() {
            break true;
        }
        stream += 2;
        if stream > 200_000 {
            break false;
        }
    };
    // Either the connection ended, or each stream was thrown away as it came; the server lives.
    assert!(ended || stream > 200_000);
    assert_eq!(get(&server.address, "/healthz").await.status, 200);
}

/// An HTTP/2 frame (RFC 9113, §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn answers_seen_one_after_the_other_on_one_connection_keep_their_order() {
    let server = Server::demo();
    let requests = [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ];
    let answers = ask(&server, requests.concat()).await;
    let statuses: Vec<u16> = answers
        .iter()
        .map(|answer: &Answer| answer.status)
        .collect();
    assert_eq!(statuses, [200, 404, 200]);
}
