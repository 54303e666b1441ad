//! The Open Inference Protocol where no stock client goes: frames by hand, keys, limits. What stock
//! clients do is in [`clients`](crate::clients).

use std::fs;

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    client::{Answer, get, post, send},
    process::{Server, models},
};

/// Asserts an answer of the form that the protocol's clients look for.
fn is_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let said = answer.json();
    assert_eq!(said["code"], code);
    assert!(said["error"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(said["request_id"], answer.header("x-request-id"));
}

fn rocket() -> Vec<u8> {
    fs::read(models("samples/rocket.jpg")).unwrap()
}

/// The best label of a classification in the form `value:index:label`.
fn label(text: &str) -> &str {
    text.splitn(3, ':').nth(2).unwrap()
}

#[tokio::test]
async fn a_body_that_is_only_a_picture_is_answered_in_binary() {
    let server = Server::demo();
    let headers = [("inference-header-content-length", "0")];
    let path = "/v2/models/demo_image/infer";
    let answer = send(&server.address, Method::POST, path, &headers, rocket()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    let length: usize = answer
        .header("inference-header-content-length")
        .parse()
        .unwrap();
    let said: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    let outputs = said["outputs"].as_array().unwrap();
    let sizes = outputs
        .iter()
        .map(|output| output["parameters"]["binary_data_size"].as_u64().unwrap());
    // 196 patches; the rest are logits of 4 bytes.
    assert_eq!(outputs[1]["parameters"]["binary_data_size"], 4 * 196);
    assert_eq!(
        sizes.sum::<u64>() as usize,
        answer.body.len() - length,
        "{said}"
    );
}

#[tokio::test]
async fn a_picture_in_json_is_base64_and_an_empty_answer_is_possible() {
    use base64::Engine;
    let server = Server::demo();
    let encoded = base64::engine::general_purpose::STANDARD.encode(rocket());
    let mut request = json!({
        "id": "é",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [encoded]}],
        "outputs": [{"name": "logits", "parameters": {"classification": 2}}]
    });
    let path = "/v2/models/demo_image/versions/1/infer";
    let answer = post(&server.address, path, request.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let said = answer.json();
    assert_eq!(said["id"], "é");
    assert_eq!(said["outputs"][0]["shape"], json!([1, 2]));
    let best = said["outputs"][0]["data"][0].as_str().unwrap();
    assert_eq!(label(best), "rocket");

    request["outputs"] = json!([]);
    let answer = post(&server.address, path, request.to_string()).await;
    assert_eq!(answer.json()["outputs"], json!([]));
}

#[tokio::test]
async fn whatever_is_wrong_is_said_in_the_protocol_s_words() {
    let server = Server::start(&["--max-body", "1MiB"]);
    let address = &server.address;
    let infer = "/v2/models/demo/infer";
    is_error(&get(address, "/v2/nothing").await, 404, "not_found");
    is_error(&get(address, infer).await, 405, "method_not_allowed");
    is_error(
        &get(address, "/v2/models/other").await,
        404,
        "no_such_model",
    );
    is_error(
        &get(address, "/v2/models/demo/versions/2").await,
        404,
        "no_such_model",
    );
    is_error(
        &get(address, "/v2/models/%ff").await,
        400,
        "malformed_request",
    );
    is_error(&post(address, infer, "{").await, 400, "malformed_request");
    is_error(&post(address, infer, "").await, 400, "malformed_request");
    is_error(
        &post(address, infer, vec![b' '; 2 << 20]).await,
        413,
        "body_too_large",
    );
    let coded = |coding: &'static str, length: &'static str, body: Vec<u8>| {
        let headers = [
            ("content-encoding", coding),
            ("inference-header-content-length", length),
        ];
        async move { send(address, Method::POST, infer, &headers, body).await }
    };
    is_error(
        &coded("br", "1", vec![0; 9]).await,
        415,
        "unsupported_encoding",
    );
    is_error(
        &coded("gzip", "1", vec![0; 9]).await,
        400,
        "malformed_request",
    );
    is_error(
        &coded("identity", "x", vec![0; 9]).await,
        400,
        "invalid_parameter",
    );
    is_error(
        &coded("identity", "10", vec![0; 9]).await,
        400,
        "malformed_request",
    );
    // 8 MiB of zeros in 8 KiB: it is the unpacked body that counts.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![0; 8 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    is_error(&coded("gzip", "0", bomb).await, 413, "body_too_large");
}

#[tokio::test]
async fn keys_are_asked_for_and_probes_want_none() {
    const KEY: &str = "a-key-0123456789";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), KEY).unwrap();
    let server = Server::start(&["--api-key-file", file.path().to_str().unwrap()]);
    let address = &server.address;
    for open in [
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/demo/ready",
    ] {
        assert_eq!(get(address, open).await.status, 200, "{open}");
    }
    for path in [
        "/v2/models/demo",
        "/v2/models/demo/config",
        "/v2/models/stats",
    ] {
        let refused = get(address, path).await;
        is_error(&refused, 401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
    }
    let path = "/v2/models/demo_image/infer";
    is_error(&post(address, path, rocket()).await, 401, "unauthorized");
    let authorization = format!("Bearer {KEY}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("inference-header-content-length", "0"),
    ];
    let answer = send(address, Method::POST, path, &headers, rocket()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_draining_server_is_not_ready_for_the_protocol_either() {
    let server = Server::start(&["--drain-delay", "60s"]);
    server.signal("TERM");
    let path = "/v2/health/ready";
    while get(&server.address, path).await.status == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let answer = get(&server.address, path).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json(), json!({"ready": false}));
    assert_eq!(get(&server.address, "/v2/health/live").await.status, 200);
}
