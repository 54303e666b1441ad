//! Maps that are not in one process's memory: in their own ids, and in a real Redis ([`shared`]).

mod shared;

use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::Method;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{
    client::{self, Answer, get, post},
    process::Server,
    service::{map_of, sample},
};

/// A file with signing keys made of these numbers.
pub(crate) fn keys(numbers: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let lines: Vec<String> = numbers
        .iter()
        .map(|&number| STANDARD.encode([number; 32]))
        .collect();
    fs::write(file.path(), lines.join("\n")).unwrap();
    file
}

pub(crate) fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// Values and prefix tokens, which a rollout promises to add up to 1.
pub(crate) fn adds_up(map: &Value) {
    let values = map["values"].as_array().expect("values");
    let patches: f64 = values.iter().map(|value| value.as_f64().unwrap()).sum();
    let sum = patches + map["prefix_mass"].as_f64().unwrap();
    assert!((sum - 1.0).abs() < 1e-4, "they add up to {sum}");
}

async fn delete(address: &str, path: &str) -> Answer {
    client::send(address, Method::DELETE, path, &[], "").await
}

async fn classify(server: &Server, query: &str) -> Answer {
    let answer = post(
        &server.address,
        &format!("/classify{query}"),
        sample("dog.jpg"),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

#[tokio::test]
async fn a_signed_id_is_the_map_and_says_what_it_left_out() {
    let keys = keys(&[1]);
    let flags = [
        "--attention-store",
        "signed",
        "--signing-key-file",
        path(&keys),
    ];
    let server = Server::start(&flags);
    let answer = classify(&server, "?attention=heads").await;
    let body = answer.json();
    assert_eq!(body["attention"]["maps"], serde_json::json!(["rollout"]));
    let (url, address) = (map_of(&answer), &server.address);
    assert!(url.len() < 1000, "{} characters", url.len());

    // The same image at a server that keeps everything: what the id carries is that, rounded.
    let whole = Server::demo();
    let exact = map_of(&classify(&whole, "").await);
    let exact = get(&whole.address, &format!("{exact}?format=json"))
        .await
        .json();
    let map = get(address, &format!("{url}?format=json")).await.json();
    adds_up(&map);
    assert_eq!(map["id"], body["id"]);
    for same in [
        "model",
        "model_digest",
        "grid",
        "region",
        "image",
        "head_fusion",
    ] {
        assert_eq!(map[same], exact[same], "{same}");
    }
    let numbers = |map: &Value| -> Vec<f64> {
        let values = map["values"].as_array().unwrap();
        values.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let (carried, exact) = (numbers(&map), numbers(&exact));
    let largest = exact.iter().copied().fold(0.0, f64::max);
    for (carried, exact) in carried.iter().zip(&exact) {
        assert!(
            (carried - exact).abs() < largest * 1e-3,
            "{carried} {exact}"
        );
    }

    // An overlay without image is the heat map, and says so.
    let png = get(address, &url).await;
    assert_eq!(png.status, 200);
    assert_eq!(png.header("x-patchlight-view"), "heatmap");
    for left_out in ["class=3", "layer=0", "layer=0&head=1", "start_layer=1"] {
        let refused = get(address, &format!("{url}?{left_out}")).await;
        refused.is_problem(409, "map_not_kept");
        assert!(refused.text().contains("--attention-store"), "{left_out}");
    }
    delete(address, &url)
        .await
        .is_problem(409, "map_not_forgettable");
    assert_eq!(get(address, &url).await.status, 200);

    // Another server's key, a changed id, another store's id.
    let foreign = Server::start(&[
        "--attention-store",
        "signed",
        "--signing-key-file",
        path(&crate::stores::keys(&[2])),
    ]);
    get(&foreign.address, &url)
        .await
        .is_problem(404, "map_not_found");
    let last = if url.ends_with('A') { "B" } else { "A" };
    let changed = format!("{}{last}", &url[..url.len() - 1]);
    get(address, &changed)
        .await
        .is_problem(404, "map_not_found");
    get(&whole.address, &url)
        .await
        .is_problem(404, "map_not_found");

    let id = body["id"].as_str().unwrap();
    assert!(!server.log().iter().any(|line| line.contains(&id[..40])));
}
