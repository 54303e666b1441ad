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
