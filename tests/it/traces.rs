//! Logs and traces: what a request leaves behind, and what it must not.

use std::fs;

use hyper::Method;

use crate::{
    client::{Answer, get_with, post, send},
    process::{Server, models},
};

/// The example of the W3C's specification.
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn dog() -> Vec<u8> {
    fs::read(models("samples/dog.jpg")).unwrap()
}

/// The log once it has the line of this request's answer.
async fn log_with(server: &Server, request_id: &str) -> String {
    for _ in 0..1000 {
        let log = server.log().join("\n");
        let mut lines = log.lines();
        if lines.any(|line| line.contains(request_id) && line.contains("answered")) {
            return log;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{request_id} was not logged:\n{}", server.log().join("\n"));
}

/// The metrics of `Server-Timing` and their milliseconds.
fn timing(answer: &Answer) -> Vec<(String, f64)> {
    let header = answer.header("server-timing");
    let parts = header
        .split(", ")
        .map(|part| part.split_once(";dur=").unwrap());
    parts
        .map(|(name, took)| (name.to_owned(), took.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_request_stays_in_its_caller_s_trace_and_its_log_line_says_so() {
    let server = Server::start(&["--log-format", "json"]);
    let headers = [("traceparent", PARENT), ("x-request-id", "traced")];
    let answer = send(&server.address, Method::POST, "/classify", &headers, dog()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-request-id"), "traced");
    let response = answer.header("traceresponse");
    assert!(response.starts_with(&format!("00-{TRACE}-")), "{response}");
    assert_ne!(response, PARENT);

    let log = log_with(&server, "traced").await;
    let line = log.lines().find(|line| line.contains("traced")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["span"]["trace_id"], TRACE);
    assert_eq!(line["span"]["route"], "/classify");
    assert_eq!(line["status"], 200);

    // Without a caller's trace, a new one.
    let other = post(&server.address, "/classify", dog()).await;
    let other = other.header("traceresponse");
    assert!(
        other.len() == PARENT.len() && !other.contains(TRACE),
        "{other}"
    );
}

#[tokio::test]
async fn answers_say_where_the_time_went() {
    let server = Server::demo();
    let answer = post(&server.address, "/classify", dog()).await;
    let timing = timing(&answer);
    let names: Vec<&str> = timing.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["decode", "preprocess", "queue", "inference", "total"]
    );
    for (name, took) in &timing {
        let said = answer.json()["timing_ms"][name].as_f64().unwrap();
        assert!((said - took).abs() < 0.01, "{name}: {said} and {took}");
    }
    let map = answer.json()["attention"]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    let map = get_with(&server.address, &map, &[]).await;
    assert!(map.header("server-timing").starts_with("total;dur="));
}

#[tokio::test]
async fn logs_hold_no_ids_of_maps_and_nothing_of_the_client_s_unescaped() {
    let server = Server::start(&["--log", "trace"]);
    let answer = post(&server.address, "/classify", dog()).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    for path in [
        format!("/attention/{id}"),
        format!("/attention/{id}?format=json"),
        format!("/attention/{id}?format=abacus"),
        format!("/nowhere/{id}"),
        // A line break and a color, as a model's name, a value and a path.
        "/classify?model=a%0Aforged%1B%5B31m".to_owned(),
        "/classify?top_k=%0Aforged%1B%5B31m".to_owned(),
        "/forged%0A%1B%5B31m".to_owned(),
    ] {
        let evil = [("x-request-id", "forged\tid"), ("traceparent", "forged")];
        send(
            &server.address,
            Method::POST,
            &path,
            &evil,
            "\nforged\u{1b}[31m",
        )
        .await;
        get_with(&server.address, &path, &evil).await;
    }
    let last = [("x-request-id", "the-last-one")];
    get_with(&server.address, "/", &last).await;
    let log = log_with(&server, "the-last-one").await;
    assert!(!log.contains(&id), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("forged")), "{log}");
}

#[cfg(not(feature = "otlp"))]
#[test]
fn an_export_that_is_not_built_in_is_refused() {
    let ran = crate::process::program()
        .args(["serve", "--otlp-endpoint", "http://127.0.0.1:4318"])
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(64));
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("--features otlp"), "{said}");
}

#[cfg(feature = "otlp")]
mod export {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
        sync::{Arc, Mutex},
        thread,
    };

    use prost::Message;

    use super::*;

    /// The parts of OTLP's `ExportTraceServiceRequest` that are looked at, by the field numbers of
    /// `opentelemetry/proto/trace/v1/trace.proto`.
    #[derive(Clone, PartialEq, Message)]
    struct Export {
        #[prost(message, repeated, tag = "1")]
        resources: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ResourceSpans {
        #[prost(message, repeated, tag = "2")]
        scopes: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Span {
        #[prost(bytes = "vec", tag = "1")]
        trace: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        parent: Vec<u8>,
        #[prost(string, tag = "5")]
        name: String,
        #[prost(int32, tag = "6")]
        kind: i32,
        #[prost(fixed64, tag = "7")]
        start: u64,
        #[prost(fixed64, tag = "8")]
        end: u64,
    }

    /// Takes OTLP over HTTP and keeps the spans.
    fn collector() -> (String, Arc<Mutex<Vec<Span>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let kept = Arc::clone(&spans);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(connection);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(reader.read_line(&mut head).unwrap() > 0);
                }
                assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
                let head = head.to_ascii_lowercase();
                assert!(
                    head.contains("content-type: application/x-protobuf\r\n"),
                    "{head}"
                );
                let length = head.split("content-length: ").nth(1).unwrap();
                let length = length.split("\r\n").next().unwrap().parse().unwrap();
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let export = Export::decode(body.as_slice()).unwrap();
                let scopes = export
                    .resources
                    .into_iter()
                    .flat_map(|resource| resource.scopes);
                kept.lock()
                    .unwrap()
                    .extend(scopes.flat_map(|scope| scope.spans));
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        (address, spans)
    }

    #[tokio::test]
    async fn spans_of_a_request_and_its_stages_reach_a_collector() {
        let (address, spans) = collector();
        let flags = ["--otlp-endpoint", &address, "--trace-sample", "0"];
        let mut server = Server::start(&[&flags[..], &["--drain-delay", "0s"]].concat());
        // Sampled because its caller says so; the second one has no caller that says so, and is
        // not.
        let headers = [("traceparent", PARENT)];
        let answer = send(&server.address, Method::POST, "/classify", &headers, dog()).await;
        let own = answer
            .header("traceresponse")
            .split('-')
            .nth(2)
            .unwrap()
            .to_owned();
        let map = answer.json()["attention"]["url"]
            .as_str()
            .unwrap()
            .to_owned();
        get_with(&server.address, &map, &headers).await;
        let unsampled = post(&server.address, "/classify", dog()).await;
        assert!(unsampled.header("traceresponse").ends_with("-00"));
        // What is left is sent at the end.
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0));

        let spans = spans.lock().unwrap().clone();
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert!(
            spans.iter().all(|span| hex(&span.trace) == TRACE),
            "{spans:?}"
        );
        let root = spans.iter().find(|span| hex(&span.id) == own).unwrap();
        assert_eq!(
            (root.name.as_str(), hex(&root.parent).as_str()),
            ("request", "00f067aa0ba902b7")
        );
        // SPAN_KIND_SERVER.
        assert_eq!(root.kind, 2);
        for stage in ["decode", "preprocess", "queue", "inference"] {
            let found: Vec<&Span> = spans.iter().filter(|span| span.name == stage).collect();
            let [span] = found[..] else {
                panic!("{stage}: {spans:?}");
            };
            assert_eq!(span.parent, root.id, "{stage}");
            assert!(root.start <= span.start && span.start <= span.end && span.end <= root.end);
        }
        assert!(spans.iter().any(|span| span.name == "render"));
    }
}
