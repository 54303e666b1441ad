//! Maps that are not in one process's memory: in their own ids, and in a real Redis.

use std::{fs, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::Method;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{
    client::{self, Answer, get, post},
    neighbours::{Neighbour, redis},
    process::Server,
    service::{map_of, sample},
};

const PASSWORD: &str = "hunter2-hunter2";

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

    // The same picture at a server that keeps everything: what the id carries is that, rounded.
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

    // An overlay without picture is the heat map, and says so.
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

/// A server on this Redis, and the file with its address.
fn on(redis: &Neighbour, keys: &NamedTempFile) -> (Server, NamedTempFile) {
    let address = NamedTempFile::new().unwrap();
    let url = format!("redis://:{PASSWORD}@{}/1\n", redis.address());
    fs::write(address.path(), url).unwrap();
    let server = Server::start(&[
        "--attention-store-file",
        path(&address),
        "--signing-key-file",
        path(keys),
        "--drain-delay",
        "200ms",
    ]);
    (server, address)
}

/// Everything that Redis has, as `(name, value)`.
async fn content(redis: &Neighbour) -> Vec<(String, Vec<u8>)> {
    let url = format!("redis://:{PASSWORD}@{}/1", redis.address());
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut keys = redis::cmd("KEYS");
    let names: Vec<String> = keys.arg("*").query_async(&mut connection).await.unwrap();
    let mut content = Vec::new();
    for name in names {
        let mut get = redis::cmd("GET");
        let value = get.arg(&name).query_async(&mut connection).await.unwrap();
        let mut ttl = redis::cmd("TTL");
        let left: i64 = ttl.arg(&name).query_async(&mut connection).await.unwrap();
        assert!((1..=3600).contains(&left), "{name} is kept for {left} s");
        content.push((name, value));
    }
    content
}

#[tokio::test]
async fn redis_keeps_everything_and_gives_nothing_away() {
    let Some(redis) = redis(PASSWORD, &[]) else {
        return;
    };
    let keys = keys(&[1]);
    let (server, _address) = on(&redis, &keys);
    let answer = classify(&server, "?attention=heads").await;
    let (body, url, address) = (answer.json(), map_of(&answer), &server.address);
    assert_eq!(
        body["attention"]["maps"],
        serde_json::json!(["rollout", "class", "heads"])
    );
    adds_up(&get(address, &format!("{url}?format=json")).await.json());
    let best = body["predictions"][0]["class_id"].as_u64().unwrap();
    let evidence = get(address, &format!("{url}?format=json&class={best}")).await;
    assert_eq!(evidence.json()["label"], body["predictions"][0]["label"]);
    for form in ["start_layer=3", "layer=1&head=2", "layer=1"] {
        let map = get(address, &format!("{url}?{form}")).await;
        assert_eq!(map.status, 200, "{form}: {}", map.text());
    }
    let overlay = get(address, &url).await;
    assert_eq!(overlay.header("x-patchlight-view"), "overlay");

    let id = body["id"].as_str().unwrap();
    let content = content(&redis).await;
    assert_eq!(content.len(), 2);
    for (name, value) in &content {
        assert!(!name.contains(id), "{name}");
        // No JPEG, neither its first bytes nor its quantisation tables' marker.
        let holds = |part: &[u8]| value.windows(part.len()).any(|window| window == part);
        assert!(!holds(b"\xff\xd8\xff") && !holds(b"JFIF") && !holds(id.as_bytes()));
    }

    assert_eq!(delete(address, &url).await.status, 204);
    delete(address, &url).await.is_problem(404, "map_not_found");
    get(address, &url).await.is_problem(404, "map_not_found");
    assert!(crate::stores::content(&redis).await.is_empty());
    let log = server.log().join("\n");
    assert!(log.contains("no maxmemory"), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains(id), "{log}");
}

/// Asks until the answer is as wanted.
async fn until(what: &str, mut wanted: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if wanted().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within a minute: {what}");
}

#[tokio::test]
async fn losing_redis_costs_maps_and_nothing_else_and_heals_by_itself() {
    let Some(mut redis) = redis(PASSWORD, &[]) else {
        return;
    };
    let keys = keys(&[1]);
    let (server, _address) = on(&redis, &keys);
    let address = server.address.clone();
    let early = map_of(&classify(&server, "").await);

    let traffic = {
        let address = address.clone();
        tokio::spawn(async move {
            let mut without = 0;
            for _ in 0..60 {
                let answer = post(&address, "/classify", sample("dog.jpg")).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                let body = answer.json();
                assert_eq!(body["predictions"].as_array().unwrap().len(), 5);
                if body["attention"].is_null() {
                    let note = body["attention_note"].as_str().unwrap();
                    assert!(note.contains("cannot be reached"), "{note}");
                    assert!(body["id"].is_null());
                    without += 1;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            without
        })
    };
    redis.kill();
    let missing = get(&address, &early).await;
    missing.is_problem(503, "map_store_away");
    assert!(!missing.header("retry-after").is_empty());
    let undeleted = delete(&address, &early).await;
    undeleted.is_problem(503, "map_store_away");
    assert_eq!(get(&address, "/readyz").await.status, 200);
    let without = traffic.await.expect("every picture is classified");
    assert!(without > 0, "Redis was away and nobody noticed");
    let metrics = get(&address, "/metrics").await;
    for action in ["keep", "find"] {
        let zero = format!("patchlight_attention_store_failures_total{{action=\"{action}\"}} 0\n");
        assert!(!metrics.text().contains(&zero), "{}", metrics.text());
    }

    redis.restart();
    until("maps are kept again", async || {
        !classify(&server, "").await.json()["attention"].is_null()
    })
    .await;
    let map = map_of(&classify(&server, "").await);
    assert_eq!(get(&address, &map).await.status, 200);
    // It had nothing on disk.
    get(&address, &early).await.is_problem(404, "map_not_found");

    // One that swallows what it is told is as good as none.
    redis.signal("STOP");
    let answer = classify(&server, "").await.json();
    assert!(answer["attention"].is_null());
    get(&address, &map).await.is_problem(503, "map_store_away");
    redis.signal("CONT");
    until("maps are found again", async || {
        get(&address, &map).await.status == 200
    })
    .await;
    let log = server.log().join("\n");
    for said in ["the map store is away", "the map store is back"] {
        assert!(log.contains(said), "{said} is missing in\n{log}");
    }
    assert!(!log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn a_full_redis_takes_no_map_and_still_gives_those_it_has() {
    let Some(redis) = redis(PASSWORD, &["--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let keys = keys(&[1]);
    let (server, _address) = on(&redis, &keys);
    let map = map_of(&classify(&server, "").await);
    let url = format!("redis://:{PASSWORD}@{}/1", redis.address());
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut shrink = redis::cmd("CONFIG");
    shrink.arg("SET").arg("maxmemory").arg("1mb");
    let () = shrink.query_async(&mut connection).await.unwrap();
    let answer = classify(&server, "").await.json();
    assert!(answer["attention"].is_null());
    let note = answer["attention_note"].as_str().unwrap();
    assert!(note.contains("full"), "{note}");
    assert_eq!(get(&server.address, &map).await.status, 200);
}

#[tokio::test]
async fn a_server_starts_without_its_redis_and_finds_it_later() {
    let Some(mut redis) = redis(PASSWORD, &[]) else {
        return;
    };
    redis.kill();
    let keys = keys(&[1]);
    let (server, _address) = on(&redis, &keys);
    assert!(classify(&server, "").await.json()["attention"].is_null());
    redis.restart();
    until("maps are kept", async || {
        !classify(&server, "").await.json()["attention"].is_null()
    })
    .await;
}
