//! Maps in a real Redis, which comes and goes.

use std::{fs, time::Duration};

use tempfile::NamedTempFile;

use super::{adds_up, classify, delete, keys, path};
use crate::{
    client::{get, post},
    external_services::{ExternalService, redis, redis_over_tls},
    process::{Server, program},
    service::{map_of, sample},
    tls::certify,
};

const PASSWORD: &str = "hunter2-hunter2";

/// A server on this Redis, and the file with its address.
fn on(redis: &ExternalService, keys: &NamedTempFile) -> (Server, NamedTempFile) {
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
async fn content(redis: &ExternalService) -> Vec<(String, Vec<u8>)> {
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
    let attribution = get(address, &format!("{url}?format=json&class={best}")).await;
    assert_eq!(attribution.json()["label"], body["predictions"][0]["label"]);
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
    assert!(self::content(&redis).await.is_empty());
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
    let without = traffic.await.expect("every image is classified");
    assert!(without > 0, "Redis was away and no answer said so");
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

#[tokio::test]
async fn redis_over_tls_has_to_show_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let Some(redis) = redis_over_tls(PASSWORD, folder.path()) else {
        return;
    };
    let url = redis.address().replace("127.0.0.1", "localhost");
    let url = format!("rediss://:{PASSWORD}@{url}");
    let keys = keys(&[1]);
    let flags = [
        "--attention-store",
        &url,
        "--signing-key-file",
        path(&keys),
        "--drain-delay",
        "200ms",
    ];
    let mut command = program();
    command.env("SSL_CERT_FILE", folder.path().join("tls.crt"));
    let server = Server::start_by(command, "127.0.0.1:0", &flags);
    let map = map_of(&classify(&server, "").await);
    assert_eq!(get(&server.address, &map).await.status, 200);

    // Trusting the system's authorities, which did not sign it, is trusting somebody else.
    let wary = Server::start(&flags);
    let answer = classify(&wary, "").await.json();
    assert!(answer["attention"].is_null(), "{answer}");
    let said = || wary.log().join("\n");
    until("the log says so", async || {
        said().contains("the map store is away")
    })
    .await;
    assert!(!said().contains(PASSWORD), "{}", said());
}
