//! `--request-log`: what its receivers get, and that requests do not depend on them.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{
    client::{get, post},
    process::{Server, models},
};

/// What one POST brought.
#[derive(Clone, Debug)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

/// An HTTP endpoint that remembers what it got and answers this status.
struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start(status: StatusCode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let kept = Arc::clone(&kept);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        kept.lock().unwrap().push(Received {
                            headers: head.headers,
                            body,
                        });
                        let answer = Response::builder().status(status);
                        Ok::<_, hyper::Error>(answer.body(Full::<Bytes>::default()).unwrap())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { address, received }
    }

    fn url(&self) -> String {
        format!("http://{}/events?trigger=1", self.address)
    }

    /// Waits for so many requests.
    async fn wait(&self, count: usize) -> Vec<Received> {
        for _ in 0..600 {
            let received = self.received.lock().unwrap().clone();
            if received.len() >= count {
                return received;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{count} requests did not come");
    }
}

fn dog() -> Vec<u8> {
    fs::read(models("samples/dog.jpg")).unwrap()
}

async fn events(server: &Server, outcome: &str) -> u64 {
    let metrics = get(&server.address, "/metrics").await;
    let series = format!("patchlight_request_log_events_total{{outcome=\"{outcome}\"}} ");
    let line = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(&series));
    line.expect("the series exists").parse().unwrap()
}

/// The attributes are headers, the data is the body: CloudEvents' HTTP binding, section 3.1.
#[tokio::test]
async fn an_endpoint_gets_each_answer_as_a_binary_cloud_event() {
    let receiver = Receiver::start(StatusCode::ACCEPTED).await;
    let server = Server::start(&["--request-log", &receiver.url()]);
    let answer = post(&server.address, "/classify?top_k=2", dog())
        .await
        .json();
    let received = receiver.wait(1).await;
    let Received { headers, body } = &received[0];
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("ce-specversion"), "1.0");
    assert_eq!(header("ce-type"), "patchlight.classification.v1");
    assert_eq!(header("ce-source"), "/patchlight/models/demo");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("ce-id").len(), 32);
    humantime::parse_rfc3339(header("ce-time")).unwrap();

    let data: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(data["predictions"], answer["predictions"]);
    assert_eq!(data["best"], answer["predictions"][0]);
    assert_eq!(data["image"]["width"], answer["image"]["width"]);
    assert_eq!(data["image"]["bytes"], dog().len());
    assert_eq!(data["image"].get("content"), None);
    let digest = data["model_digest"].as_str().unwrap();
    assert_eq!(digest.len(), 64);

    // The entropy of all scores, and the map's peak, from what the service answers itself.
    let all = post(&server.address, "/classify?top_k=72", dog())
        .await
        .json();
    let scores = all["predictions"].as_array().unwrap().iter();
    let scores = scores.map(|one| one["score"].as_f64().unwrap());
    let nats: f64 = scores.map(|score| -score * score.ln()).sum();
    let entropy = data["entropy"].as_f64().unwrap();
    assert!((entropy - nats / 72_f64.ln()).abs() < 1e-4, "{entropy}");
    let url = answer["attention"]["url"].as_str().unwrap();
    let map = get(&server.address, &format!("{url}?format=json"))
        .await
        .json();
    let values = map["values"].as_array().unwrap().iter();
    let values: Vec<f64> = values.map(|value| value.as_f64().unwrap()).collect();
    let (at, peak) = values
        .iter()
        .enumerate()
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .unwrap();
    let summary = &data["map"];
    assert_eq!(summary["grid"], map["grid"]);
    assert_eq!(summary["peak"]["row"], at / 14);
    assert_eq!(summary["peak"]["column"], at % 14);
    let share = peak / values.iter().sum::<f64>();
    assert!((summary["peak"]["share"].as_f64().unwrap() - share).abs() < 1e-6);
    // Whoever has a map's id has the map.
    let id = answer["id"].as_str().unwrap();
    assert!(!String::from_utf8_lossy(body).contains(id));
}

#[tokio::test]
async fn a_batch_is_one_array_and_has_images_only_where_they_are_asked_for() {
    let receiver = Receiver::start(StatusCode::OK).await;
    let (url, flags) = (receiver.url(), ["--request-log-mode", "batch"]);
    let server =
        Server::start(&[&["--request-log", &url, "--request-log-images"], &flags[..]].concat());
    for _ in 0..3 {
        assert_eq!(post(&server.address, "/classify", dog()).await.status, 200);
    }
    let mut found: Vec<Value> = Vec::new();
    let mut requests = 1;
    while found.len() < 3 {
        let received = receiver.wait(requests).await;
        requests = received.len() + 1;
        found = received
            .iter()
            .flat_map(|one| {
                let kind = one.headers["content-type"].to_str().unwrap();
                assert!(
                    kind.starts_with("application/cloudevents-batch+json"),
                    "{kind}"
                );
                serde_json::from_slice::<Vec<Value>>(&one.body).unwrap()
            })
            .collect();
    }
    let mut ids: Vec<&str> = found
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let content = found[0]["data"]["image"]["content"].as_str().unwrap();
    assert_eq!(STANDARD.decode(content).unwrap(), dog());
}

#[tokio::test]
async fn a_file_gets_a_line_each_and_the_last_ones_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.jsonl");
    let flags = [
        "--request-log",
        file.to_str().unwrap(),
        "--drain-delay",
        "0s",
    ];
    let mut server = Server::start(&[&flags[..], &["--result-cache", "1MiB"]].concat());
    for _ in 0..2 {
        assert_eq!(post(&server.address, "/classify", dog()).await.status, 200);
    }
    server.signal("TERM");
    assert!(server.wait().success());
    let lines = lines(&file);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["specversion"], "1.0");
    assert_eq!(lines[0]["data"]["best"]["label"], "dog");
    assert_eq!(lines[0]["data"]["cached"], false);
    assert_eq!(lines[1]["data"]["cached"], true);
}

/// One in ten of 300, within five standard deviations; and a file that turns over on its way.
#[tokio::test]
async fn a_share_is_a_sample_and_files_turn_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.jsonl");
    let flags = [
        "--request-log",
        file.to_str().unwrap(),
        "--drain-delay",
        "0s",
    ];
    let more = [
        "--request-log-sample=0.1",
        "--request-log-max-size=1KiB",
        "--request-log-files=100",
    ];
    let cache = ["--result-cache", "1MiB"];
    let mut server = Server::start(&[&flags[..], &more, &cache].concat());
    for _ in 0..2 {
        for _ in 0..150 {
            assert_eq!(post(&server.address, "/classify", dog()).await.status, 200);
        }
        // Longer than a batch waits for its next event.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.signal("TERM");
    assert!(server.wait().success());
    let files = fs::read_dir(folder.path()).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    let all: usize = files.iter().map(|file| lines(file).len()).sum();
    assert!((4..=56).contains(&all), "{all}");
    // An event is longer than half a file, so that a batch each has one of its own.
    assert!(files.len() >= 2, "{files:?}");
}

#[tokio::test]
async fn a_receiver_that_fails_costs_its_events_and_no_answer() {
    let receiver = Receiver::start(StatusCode::BAD_REQUEST).await;
    let server = Server::start(&["--request-log", &receiver.url()]);
    for _ in 0..3 {
        assert_eq!(post(&server.address, "/classify", dog()).await.status, 200);
    }
    receiver.wait(3).await;
    for _ in 0..600 {
        if events(&server, "failed").await == 3 {
            assert_eq!(events(&server, "written").await, 0);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("failures were not counted");
}

#[tokio::test]
async fn raw_output_is_logged_and_counted_without_labels() {
    let receiver = Receiver::start(StatusCode::OK).await;
    let server = Server::start(&["--request-log", &receiver.url()]);
    let values = vec!["0.5"; 3 * 224 * 224].join(",");
    let body = format!(
        r#"{{"inputs":[{{"name":"pixel_values","shape":[1,3,224,224],"datatype":"FP32","data":[{values}]}}]}}"#
    );
    let answer = post(&server.address, "/v2/models/demo/infer", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let data: Value = serde_json::from_slice(&receiver.wait(1).await[0].body).unwrap();
    assert_eq!(data["predictions"].as_array().map(Vec::len), Some(0));
    assert_eq!(data.get("image"), None);
    let label = data["best"]["label"].as_str().unwrap();
    let metrics = get(&server.address, "/metrics").await;
    let series = format!("patchlight_answer_labels_total{{label=\"{label}\",model=\"demo\"}} 1");
    assert!(metrics.text().contains(&series), "{series}");
}

#[test]
fn a_file_that_cannot_be_written_is_a_clear_end_at_the_start() {
    let ended = crate::process::program()
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--request-log",
            "/nowhere/log",
        ])
        .output()
        .unwrap();
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("--request-log /nowhere/log"), "{said}");
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
