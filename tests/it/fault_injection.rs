//! What goes wrong around the server: signals under load, kills, disks.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    client::{Answer, post},
    process::{Server, models, program},
};

fn dog() -> Vec<u8> {
    fs::read(models("samples/dog.jpg")).unwrap()
}

fn predictions(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["predictions"].clone()
}

/// Sends images over kept connections until no connection is accepted any more. Every request
/// that could be sent has to be answered; how many were.
async fn send_until_closed(address: String, image: Vec<u8>) -> usize {
    let mut answered = 0;
    while let Ok(socket) = TcpStream::connect(&address).await {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        let connection = tokio::spawn(connection);
        // Until the server says that it closes, or closes at rest.
        while sender.ready().await.is_ok() {
            let request = Request::post("/classify?attention=none")
                .header("host", &address)
                .body(Full::new(Bytes::from(image.clone())))
                .unwrap();
            let answer = match sender.try_send_request(request).await {
                Ok(answer) => answer,
                Err(mut error) => {
                    // Given back unsent: the connection had been closed at rest.
                    let unsent = error.take_message().is_some();
                    assert!(unsent, "a request was lost: {}", error.into_error());
                    break;
                }
            };
            assert_eq!(answer.status(), 200);
            let closes = answer.headers().get("connection").is_some();
            answer.into_body().collect().await.expect("a whole answer");
            answered += 1;
            if closes {
                break;
            }
        }
        connection.abort();
    }
    answered
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request() {
    let mut server = Server::start(&["--drain-delay", "1s", "--request-timeout", "60s"]);
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let sending = send_until_closed(server.address.clone(), dog());
            let answered = Arc::clone(&answered);
            tokio::spawn(async move {
                answered.fetch_add(sending.await, Ordering::Relaxed);
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.signal("TERM");
    for client in clients {
        client.await.expect("no request is lost");
    }
    assert!(answered.load(Ordering::Relaxed) >= 8);
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn a_killed_server_leaves_nothing_to_repair() {
    let mut server = Server::demo();
    let before = predictions(&post(&server.address, "/classify", dog()).await);
    server.signal("KILL");
    assert_eq!(server.wait().code(), None);
    let server = Server::demo();
    let after = predictions(&post(&server.address, "/classify", dog()).await);
    assert_eq!(before, after);
}

/// With a limit of 0 on the size of files, the first byte written to one ends the process, as a
/// full disk or a read-only one would at least fail it.
#[cfg(unix)]
#[tokio::test]
async fn nothing_is_ever_written_to_a_disk() {
    let mut shell = Command::new("sh");
    let server = program();
    shell.args(["-c", "ulimit -f 0 && exec \"$0\" \"$@\""]);
    shell.arg(server.get_program());
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let mut server = Server::start_by(shell, "127.0.0.1:0", &["--drain-delay", "0s"]);
    let answer = post(&server.address, "/classify", dog()).await;
    predictions(&answer);
    let url = answer.json()["attention"]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let map = crate::client::get(&server.address, &url).await;
    assert_eq!(map.status, 200);
    post(&server.address, "/classify", vec![0xff; 1000])
        .await
        .is_problem(415, "unsupported_format");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// A single image's run that takes longer than a request may: what is learned of it must not keep
/// everybody out.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_was_stopped_during_a_run_serves_on() {
    let flags = ["--max-batch", "1", "--threads", "1"];
    let server = Server::start(&[&flags[..], &["--request-timeout", "3s"]].concat());
    for _ in 0..2 {
        let computed = || server.thread_time("batch") + server.thread_time("encoder-0");
        let before = computed();
        let address = server.address.clone();
        let sent = tokio::spawn(async move { post(&address, "/classify", dog()).await });
        while computed() < before + Duration::from_millis(1) {
            assert!(!sent.is_finished(), "it was answered without a run");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.pause(Duration::from_secs(4)).await;
        let stopped = sent.await.unwrap();
        assert!(matches!(stopped.status.as_u16(), 200 | 504));
        for _ in 0..3 {
            predictions(&post(&server.address, "/classify", dog()).await);
        }
    }
    let metrics = crate::client::get(&server.address, "/metrics").await;
    let shed = "patchlight_shed_total{reason=\"predicted_wait\"} 0";
    assert!(metrics.text().contains(shed), "{}", metrics.text());
}
