//! Which names a server answers to: DNS rebinding.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{
    client::{Answer, get, send},
    process::Server,
};

/// Asks with HTTP/1 as if `host` led here.
async fn ask(server: &Server, method: Method, path: &str, host: &str) -> Answer {
    let headers = [("host", host)];
    send(&server.address, method, path, &headers, "").await
}

/// The same with HTTP/2, where the name is in `:authority`.
async fn ask_http2(server: &Server, host: &str) -> u16 {
    let socket = TcpStream::connect(&server.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("http://{host}/readyz"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    connection.abort();
    status
}

#[tokio::test]
async fn a_server_of_the_own_machine_answers_to_its_names_alone() {
    let server = Server::demo();
    for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(
            ask(&server, Method::GET, "/readyz", host).await.status,
            200,
            "{host}"
        );
    }
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/readyz"),
        (Method::GET, "/metrics"),
        (Method::GET, "/nowhere"),
        (Method::POST, "/classify"),
        (Method::OPTIONS, "/classify"),
    ] {
        let answer = ask(&server, method, path, "evil.example:8080").await;
        answer.is_problem(421, "host_not_allowed");
    }
    let answer = ask(&server, Method::GET, "/v2", "evil.example").await;
    assert_eq!(answer.status, 421);
    assert_eq!(answer.json()["code"], "host_not_allowed");

    assert_eq!(ask_http2(&server, "localhost").await, 200);
    assert_eq!(ask_http2(&server, "evil.example").await, 421);
}

#[tokio::test]
async fn names_can_be_allowed() {
    let server = Server::start(&["--allowed-hosts", "maps.example.org, vit.internal"]);
    for host in ["maps.example.org", "vit.internal:443", "localhost"] {
        assert_eq!(
            ask(&server, Method::GET, "/readyz", host).await.status,
            200,
            "{host}"
        );
    }
    let answer = ask(&server, Method::GET, "/readyz", "evil.example").await;
    answer.is_problem(421, "host_not_allowed");
}

#[tokio::test]
async fn with_keys_any_name_will_do() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "a-key-0123456789").unwrap();
    let server = Server::start(&["--api-key-file", keys.path().to_str().unwrap()]);
    let answer = ask(&server, Method::GET, "/readyz", "maps.example.org").await;
    assert_eq!(answer.status, 200);
    assert_eq!(get(&server.address, "/readyz").await.status, 200);
}
