//! Bodies as clients really write them: compressed, base64 of every kind, long names in them.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    client::{Answer, send},
    process::Server,
    service::sample,
};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn classify(server: &Server, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    send(&server.address, Method::POST, "/classify", headers, body).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// RFC 9110, section 8.4: what the header says is undone before the body is looked at.
#[tokio::test]
async fn compressed_pictures_are_unpacked_within_the_limit() {
    let server = Server::start(&["--max-body", "1MiB"]);
    let dog = sample("dog.jpg");
    let plain = classify(&server, &[], dog.clone()).await.json();
    for (coding, body) in [
        ("gzip", gzip(&dog)),
        ("X-Gzip", gzip(&dog)),
        ("deflate", deflate(&dog)),
        ("identity", dog.clone()),
    ] {
        let answer = classify(&server, &[("content-encoding", coding)], body).await;
        assert_eq!(answer.status, 200, "{coding}: {}", answer.text());
        assert_eq!(answer.json()["predictions"], plain["predictions"]);
    }
    let text = format!("{{\"image\": \"{}\"}}", STANDARD.encode(&dog));
    let headers = [JSON, ("content-encoding", "gzip")];
    let answer = classify(&server, &headers, gzip(text.as_bytes())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    // A picture that is not compressed, a bomb, and what is not read.
    let headers = [("content-encoding", "gzip")];
    let answer = classify(&server, &headers, dog.clone()).await;
    answer.is_problem(400, "malformed_request");
    let answer = classify(&server, &headers, gzip(&vec![0; 8 << 20])).await;
    answer.is_problem(413, "body_too_large");
    for coding in ["br", "zstd", "gzip, br"] {
        let answer = classify(&server, &[("content-encoding", coding)], dog.clone()).await;
        answer.is_problem(415, "unsupported_encoding");
        assert_eq!(answer.header("accept-encoding"), "gzip, deflate");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains("Content-Encoding") && detail.contains(coding),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn base64_is_read_however_it_is_written() {
    let server = Server::demo();
    let digits = STANDARD.encode(sample("dog.jpg"));
    // As Python's base64.encodebytes and MIME have it.
    let lines: Vec<&str> = digits
        .as_bytes()
        .chunks(76)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    let percent = digits.replace('+', "%2B").replace('/', "%2F");
    for (way, image) in [
        ("lines", lines.join("\n")),
        ("lines of MIME", format!("{}\r\n", lines.join("\r\n"))),
        ("for URLs", digits.replace('+', "-").replace('/', "_")),
        (
            "percent-encoded",
            format!("data:image/jpeg;base64,{percent}"),
        ),
        ("in capitals", format!("DATA:image/jpeg;BASE64,{digits}")),
    ] {
        let body = json!({ "image": image }).to_string();
        let answer = classify(&server, &[JSON], body.into_bytes()).await;
        assert_eq!(answer.status, 200, "{way}: {}", answer.text());
        assert_eq!(answer.json()["predictions"][0]["label"], "dog", "{way}");
    }
    let marked = format!("\u{feff}{{\"image\": \"{digits}\"}}");
    let answer = classify(&server, &[JSON], marked.into_bytes()).await;
    assert_eq!(answer.status, 200, "a byte order mark: {}", answer.text());
}

/// What MLServer's own client sends: every member that it knows.
#[tokio::test]
async fn members_that_are_null_are_as_if_absent() {
    let server = Server::demo();
    let request = json!({
        "id": null, "parameters": null, "outputs": null,
        "inputs": [{
            "name": "image", "shape": [1], "datatype": "BYTES", "parameters": null,
            "data": [STANDARD.encode(sample("dog.jpg"))],
        }],
    });
    let path = "/v2/models/demo_image/infer";
    let answer = send(
        &server.address,
        Method::POST,
        path,
        &[JSON],
        request.to_string(),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json().get("id"), None);
}

/// 10 KB were answered with 73 MB, escaped on a thread that all connections share.
#[tokio::test]
async fn what_is_quoted_from_a_request_is_short() {
    let server = Server::demo();
    let name = "\u{7f}".repeat(9 << 20);
    let infer = "/v2/models/demo_image/infer";
    let input = |name: &str, datatype: &str| json!({"inputs": [{"name": name, "datatype": datatype, "shape": [1], "data": [""]}]});
    let output = json!({"outputs": [{"name": name}], "inputs": []});
    let requests: [(&str, Value); 5] = [
        ("/classify", json!({ name.clone(): 1 })),
        ("/classify", json!({"image": format!("data:{name}")})),
        (infer, input(&name, "BYTES")),
        (infer, input("image", &name)),
        (infer, output),
    ];
    for (number, (path, body)) in requests.into_iter().enumerate() {
        let body = gzip(body.to_string().as_bytes());
        assert!(body.len() < 40_000);
        let headers = [JSON, ("content-encoding", "gzip")];
        let answer = send(&server.address, Method::POST, path, &headers, body).await;
        assert_eq!(answer.status, 400, "{number}");
        assert!(
            answer.body.len() < 1000,
            "{number}: {} bytes",
            answer.body.len()
        );
    }
    // Names in the head, which may have 64 KiB.
    let long = "x".repeat(30_000);
    for (method, path) in [
        (Method::GET, format!("/v2/models/{long}")),
        (Method::POST, format!("/classify?model={long}")),
        (Method::POST, format!("/classify?{long}=1")),
        (
            Method::from_bytes(long.as_bytes()).unwrap(),
            "/classify".to_owned(),
        ),
    ] {
        let answer = send(&server.address, method, &path, &[], "").await;
        assert!(answer.status.is_client_error());
        assert!(answer.body.len() < 1000, "{} bytes", answer.body.len());
    }
}

#[tokio::test]
async fn multipart_inside_multipart_is_named() {
    let server = Server::demo();
    let nested = "--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\
                  Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n\r\n--b--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let answer = classify(&server, &headers, nested.into()).await;
    answer.is_problem(400, "malformed_request");
    assert!(
        answer.text().contains("multipart/mixed"),
        "{}",
        answer.text()
    );

    let headers = [("content-type", "multipart/mixed; boundary=b")];
    let answer = classify(&server, &headers, nested.into()).await;
    answer.is_problem(400, "malformed_request");
    assert!(
        answer.text().contains("multipart/form-data"),
        "{}",
        answer.text()
    );
    // The bytes decide what a picture is, and never the header.
    let answer = classify(&server, &headers, sample("dog.jpg")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
