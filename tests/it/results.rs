//! Identical pictures: computed once, each with an id of its own, and nothing between keys.

use std::fs;

use hyper::Method;

use crate::{
    client::{self, Answer, get},
    process::Server,
    service::{map_of, sample},
};

const FIRST: &str = "first-key-0123456789";
const SECOND: &str = "second-key-0123456789";

async fn ask(server: &Server, method: Method, path: &str, key: &str, body: Vec<u8>) -> Answer {
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str())];
    client::send(&server.address, method, path, &headers, body).await
}

async fn classify(server: &Server, key: &str, query: &str) -> Answer {
    let path = format!("/classify{query}");
    let answer = ask(server, Method::POST, &path, key, sample("dog.jpg")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

#[tokio::test]
async fn a_repeated_picture_is_answered_from_memory_with_a_map_of_its_own() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    fs::write(keys.path(), format!("{FIRST}\n{SECOND}\n")).unwrap();
    let server = Server::start(&[
        "--result-cache",
        "16MiB",
        "--api-key-file",
        keys.path().to_str().unwrap(),
        "--request-timeout",
        "4m",
    ]);
    let first = classify(&server, FIRST, "?top_k=3").await;
    assert_eq!(first.json()["cached"], serde_json::Value::Null);
    let again = classify(&server, FIRST, "?top_k=1").await;
    let (one, two) = (first.json(), again.json());
    assert_eq!(two["cached"], true);
    assert_eq!(two["predictions"].as_array().unwrap().len(), 1);
    assert_eq!(two["predictions"][0], one["predictions"][0]);
    assert_eq!(two["image"], one["image"]);

    // Each has its own map; forgetting one leaves the other, picture and all.
    let (mine, other) = (map_of(&first), map_of(&again));
    assert_ne!(mine, other);
    let forgotten = ask(&server, Method::DELETE, &mine, FIRST, Vec::new()).await;
    assert_eq!(forgotten.status, 204);
    let map = ask(&server, Method::GET, &other, FIRST, Vec::new()).await;
    assert_eq!(
        (map.status.as_u16(), map.header("x-patchlight-view")),
        (200, "overlay")
    );

    // Other options that matter, and another key, are computed anew.
    for (key, query) in [(FIRST, "?attention=none"), (SECOND, "")] {
        let answer = classify(&server, key, query).await;
        assert_eq!(answer.json()["cached"], serde_json::Value::Null, "{query}");
    }
    let metrics = get(&server.address, "/metrics").await;
    for line in [
        "patchlight_result_cache_total{outcome=\"hit\"} 1",
        "patchlight_result_cache_total{outcome=\"miss\"} 3",
        "patchlight_batch_size_sum 3",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    assert!(!metrics.text().contains("patchlight_result_cache_bytes 0"));
}

/// Bytes that are kept for identical requests.
async fn kept(server: &Server) -> String {
    let metrics = get(&server.address, "/metrics").await;
    let mut lines = metrics.text().lines();
    let value = lines.find_map(|line| line.strip_prefix("patchlight_result_cache_bytes "));
    value.expect("a metric").to_owned()
}

#[tokio::test]
async fn who_deletes_a_map_deletes_the_result_that_would_bring_it_back() {
    let server = Server::start(&["--result-cache", "16MiB", "--drain-delay", "200ms"]);
    let send = || client::post(&server.address, "/classify", sample("dog.jpg"));
    let first = send().await;
    let second = send().await;
    assert_eq!(second.json()["cached"], true);
    assert_ne!(kept(&server).await, "0");
    // Whichever of the maps it is.
    let url = map_of(&second);
    let deleted = client::send(&server.address, Method::DELETE, &url, &[], "").await;
    assert_eq!(deleted.status, 204);
    assert_eq!(kept(&server).await, "0");
    let third = send().await;
    assert_eq!(third.json()["cached"], serde_json::Value::Null);
    // The other one is still the client's, picture and all.
    let map = get(&server.address, &map_of(&first)).await;
    assert_eq!(map.header("x-patchlight-view"), "overlay");
}

#[tokio::test]
async fn a_result_does_not_outlive_its_map() {
    let flags = ["--result-cache", "16MiB", "--attention-ttl", "1s"];
    let server = Server::start(&[&flags[..], &["--drain-delay", "200ms"]].concat());
    let send = || client::post(&server.address, "/classify", sample("dog.jpg"));
    let first = send().await;
    while get(&server.address, &map_of(&first)).await.status == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(kept(&server).await, "0");
    assert_eq!(send().await.json()["cached"], serde_json::Value::Null);
}

#[tokio::test]
async fn without_the_flag_nothing_is_kept() {
    let server = Server::demo();
    for _ in 0..2 {
        let answer = client::post(&server.address, "/classify", sample("dog.jpg")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["cached"], serde_json::Value::Null);
    }
    let metrics = get(&server.address, "/metrics").await;
    assert!(metrics.text().contains("patchlight_result_cache_bytes 0"));
}
