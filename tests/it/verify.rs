//! The perturbation test of a kept map, over a real socket.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::{
    client::{self, Answer, get, post},
    process::Server,
    service::{map_of, sample},
};

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

async fn ask(server: &Server, method: Method, path: &str) -> Answer {
    client::send(&server.address, method, path, &[], "").await
}

async fn classified(server: &Server) -> String {
    map_of(&post(&server.address, "/classify", sample("dog.jpg")).await)
}

/// Asks until the job has ended.
async fn ended(server: &Server, job: &str) -> Value {
    loop {
        let status = get(&server.address, job).await;
        assert_eq!(status.status, 200, "{}", status.text());
        assert_eq!(status.header("cache-control"), "no-store");
        let status = status.json();
        let progress = &status["progress"];
        assert!(number(&progress["done"]) <= number(&progress["of"]));
        if !matches!(status["status"].as_str(), Some("waiting" | "running")) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_map_is_tested_in_the_background_and_says_how_it_compares_with_chance() {
    let server = Server::start(&["--allow-verify", "--drain-delay", "200ms"]);
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    let map = map_of(&answer);
    let job = answer.json()["attention"]["verify"]
        .as_str()
        .expect("the answer links to the test")
        .to_owned();
    assert_eq!(job, format!("{map}/verify"));
    get(&server.address, &job)
        .await
        .is_problem(404, "verify_not_found");

    let started = ask(&server, Method::POST, &job).await;
    assert_eq!(started.status, 202, "{}", started.text());
    assert_eq!(started.header("location"), job);
    // Requests are answered while it runs.
    let meanwhile = post(&server.address, "/classify", sample("rocket.jpg")).await;
    assert_eq!(meanwhile.status, 200);

    let status = ended(&server, &job).await;
    assert_eq!(status["status"], "done", "{status}");
    // Two ends, and nine steps both ways for rollout, evidence and the random order.
    assert_eq!(
        status["progress"],
        serde_json::json!({"done": 56, "of": 56})
    );
    let result = &status["result"];
    let best = &answer.json()["predictions"][0];
    assert_eq!(result["class_id"], best["class_id"]);
    assert_eq!(result["label"], best["label"]);
    let maps = result["maps"].as_array().unwrap();
    let names: Vec<&Value> = maps.iter().map(|map| &map["map"]).collect();
    assert_eq!(names, ["rollout", "class"]);
    let random = &result["random"];
    for map in maps {
        for kind in ["deletion", "insertion"] {
            let scores = map[kind]["scores"].as_array().unwrap();
            assert_eq!(scores.len(), 11);
            // The trapezoidal rule over eleven equidistant scores.
            let inner: f64 = scores[1..10].iter().map(number).sum();
            let ends = (number(&scores[0]) + number(&scores[10])) / 2.0;
            assert!((number(&map[kind]["area"]) - (inner + ends) / 10.0).abs() < 1e-9);
            let sign = if kind == "deletion" { -1.0 } else { 1.0 };
            let gain = sign * (number(&map[kind]["area"]) - number(&random[kind]["area"]));
            assert!((number(&map["gain"][kind]) - gain).abs() < 1e-9);
        }
        // The whole image, but for the loss of the kept copy, is what was classified.
        let whole = number(&map["deletion"]["scores"][0]);
        assert!((whole - number(&best["score"])).abs() < 0.1, "{whole}");
    }

    // Asked again, the same test answers at once.
    let again = ask(&server, Method::POST, &job).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["result"]),
        (200, result)
    );
    let metrics = get(&server.address, "/metrics").await;
    assert!(
        metrics
            .text()
            .contains("patchlight_verify_jobs_total{outcome=\"done\"} 1")
    );

    assert_eq!(ask(&server, Method::DELETE, &job).await.status, 204);
    ask(&server, Method::DELETE, &job)
        .await
        .is_problem(404, "verify_not_found");
    // With the map goes whatever was found about it.
    ask(&server, Method::POST, &job).await;
    assert_eq!(ask(&server, Method::DELETE, &map).await.status, 204);
    get(&server.address, &job)
        .await
        .is_problem(404, "map_not_found");
}

#[tokio::test]
async fn without_the_flag_no_test_runs_and_no_answer_offers_one() {
    let server = Server::demo();
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    assert!(answer.json()["attention"]["verify"].is_null());
    let job = format!("{}/verify", map_of(&answer));
    for method in [Method::POST, Method::GET, Method::DELETE] {
        ask(&server, method, &job)
            .await
            .is_problem(403, "verify_not_allowed");
    }
}

#[tokio::test]
async fn jobs_are_bounded_and_can_be_called_off() {
    let server = Server::start(&["--allow-verify", "--drain-delay", "200ms"]);
    let mut jobs = Vec::new();
    let mut refused = None;
    // Without keys all clients are one owner, who may have four jobs at a time. A fast machine may
    // finish some while others are asked for.
    for _ in 0..40 {
        let job = format!("{}/verify", classified(&server).await);
        let answer = ask(&server, Method::POST, &job).await;
        if answer.status == 202 {
            jobs.push(job);
        } else {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("40 jobs at a time");
    refused.is_problem(429, "too_many_jobs");
    assert!(!refused.header("retry-after").is_empty());
    let last = jobs.last().unwrap();
    assert_eq!(ask(&server, Method::DELETE, last).await.status, 204);
    get(&server.address, last)
        .await
        .is_problem(404, "verify_not_found");
    let metrics = get(&server.address, "/metrics").await;
    let text = metrics.text();
    assert!(text.contains("patchlight_verify_jobs_total{outcome=\"refused\"} 1"));
    assert!(text.contains("patchlight_verify_jobs_total{outcome=\"cancelled\"}"));
}
