//! Images that requests name by their URL: from hosts that the operator names, and from nowhere else.

use std::fs;

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    client::{Answer, get, post, send},
    hub::addresses::Web,
    process::{Server, models},
};

async fn ask(server: &Server, path: &str, body: Value) -> Answer {
    let kind = [("content-type", "application/json")];
    send(&server.address, Method::POST, path, &kind, body.to_string()).await
}

/// A server of images with TLS, and a program that may fetch from it.
fn fetching(from: &str) -> (Web, Server) {
    let web = Web::start();
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    fs::write(web.folder.path().join("files/dog.jpg"), dog).unwrap();
    fs::write(web.folder.path().join("files/words.jpg"), "no image").unwrap();
    let from = from.replace("PORT", &web.port);
    let flags = ["--drain-delay", "0s", "--fetch-from", &from];
    let server = Server::start_by(web.program(), "127.0.0.1:0", &flags);
    (web, server)
}

#[tokio::test]
async fn an_image_by_its_url_is_the_image_itself() {
    let (web, server) = fetching("localhost:PORT,127.0.0.0/8");
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let sent = post(&server.address, "/classify", dog).await.json();
    let url = json!({"url": web.address("dog.jpg")});
    let named = ask(&server, "/classify", url).await;
    assert_eq!(named.status, 200, "{}", named.text());
    assert_eq!(named.json()["predictions"], sent["predictions"]);

    let inputs = json!({"inputs": web.address("dog.jpg"), "parameters": {"top_k": 1}});
    let task = ask(&server, "/", inputs).await;
    assert_eq!(task.status, 200, "{}", task.text());
    assert_eq!(task.json()[0]["label"], sent["predictions"][0]["label"]);

    let words = json!({"url": web.address("words.jpg")});
    ask(&server, "/classify", words)
        .await
        .is_problem(415, "unsupported_format");
    let missing = json!({"url": web.address("nothing.jpg")});
    let missing = ask(&server, "/classify", missing).await;
    missing.is_problem(422, "image_not_fetched");
    assert!(missing.text().contains("404"), "{}", missing.text());
    let metrics = get(&server.address, "/metrics").await;
    let metrics = metrics.text();
    for line in [
        "patchlight_image_fetches_total{outcome=\"fetched\"} 3",
        "patchlight_image_fetches_total{outcome=\"failed\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing");
    }
}

#[tokio::test]
async fn what_the_operator_did_not_name_is_not_asked() {
    // Without the range the name leads to where nothing may be fetched from.
    let (web, server) = fetching("localhost:PORT");
    for url in [
        web.address("dog.jpg"),
        web.address("dog.jpg").replace("localhost", "127.0.0.1"),
        web.address("dog.jpg").replace("https", "http"),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://2130706433/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let answer = ask(&server, "/classify", json!({"url": url})).await;
        answer.is_problem(403, "fetch_not_allowed");
    }
    ask(&server, "/classify", json!({"url": "no url"}))
        .await
        .is_problem(400, "malformed_request");
}

#[tokio::test]
async fn nothing_is_fetched_without_the_flag() {
    let server = Server::demo();
    let answer = ask(
        &server,
        "/classify",
        json!({"url": "https://example.org/x"}),
    )
    .await;
    answer.is_problem(403, "fetch_not_allowed");
    assert!(answer.text().contains("--fetch-from"), "{}", answer.text());
}
