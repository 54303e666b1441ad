//! API keys: who may ask, and whose map is whose.

use std::fs;

use hyper::Method;

use crate::{
    client::{self, Answer, get},
    process::{Server, models},
};

const FIRST: &str = "first-key-0123456789";
const SECOND: &str = "second-key-0123456789";

async fn ask(server: &Server, method: Method, path: &str, key: &str, body: Vec<u8>) -> Answer {
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str())];
    client::send(&server.address, method, path, &headers, body).await
}

#[tokio::test]
async fn a_key_is_needed_and_a_map_is_its_maker_s_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("# two clients\n{FIRST}\n{SECOND}\n")).unwrap();
    let server = Server::start(&["--api-key-file", file.path().to_str().unwrap()]);
    let dog = fs::read(models("samples/dog.jpg")).unwrap();

    let refused = client::post(&server.address, "/classify", dog.clone()).await;
    refused.is_problem(401, "unauthorized");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let wrong = ask(
        &server,
        Method::POST,
        "/classify",
        "another-key-0123456789",
        dog.clone(),
    )
    .await;
    wrong.is_problem(401, "unauthorized");
    // Probes, scrapes and the page itself want none.
    for open in ["/healthz", "/readyz", "/metrics", "/"] {
        assert_eq!(get(&server.address, open).await.status, 200, "{open}");
    }

    let answer = ask(&server, Method::POST, "/classify", FIRST, dog).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let url = answer.json()["attention"]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    get(&server.address, &url)
        .await
        .is_problem(401, "unauthorized");
    // Another key's map looks like one that never was, and cannot be deleted.
    ask(&server, Method::GET, &url, SECOND, Vec::new())
        .await
        .is_problem(404, "map_not_found");
    ask(&server, Method::DELETE, &url, SECOND, Vec::new())
        .await
        .is_problem(404, "map_not_found");
    assert_eq!(
        ask(&server, Method::GET, &url, FIRST, Vec::new())
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&server, Method::DELETE, &url, FIRST, Vec::new())
            .await
            .status,
        204
    );
}

/// Rows of an inference request, one encoded picture each.
async fn infer(server: &Server, rows: usize) -> Answer {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let dog = STANDARD.encode(fs::read(models("samples/dog.jpg")).unwrap());
    let data = vec![dog; rows];
    let body = serde_json::json!({
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [rows], "data": data}],
    });
    let path = "/v2/models/demo_image/infer";
    ask(
        server,
        Method::POST,
        path,
        FIRST,
        body.to_string().into_bytes(),
    )
    .await
}

/// docs/api.md: a request with several pictures counts each of them, and what brings none nothing.
#[tokio::test]
async fn a_quota_counts_pictures_whatever_the_protocol() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // A mark that Windows' editors write first.
    fs::write(file.path(), format!("\u{feff}a {FIRST} rate=1/h burst=4\n")).unwrap();
    let server = Server::start(&[
        "--api-key-file",
        file.path().to_str().unwrap(),
        "--request-timeout",
        "2m",
    ]);
    for _ in 0..6 {
        let index = "/v2/repository/index";
        let answer = ask(&server, Method::POST, index, FIRST, Vec::new()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let answer = infer(&server, 3).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // One is left. A request with more may have it, and owes the rest.
    let answer = infer(&server, 2).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let refused = infer(&server, 1).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.json()["code"], "quota_exceeded");
    // One is owed and one wanted, at one an hour.
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((7100..=7200).contains(&wait), "{wait}");
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let refused = ask(&server, Method::POST, "/classify", FIRST, dog).await;
    refused.is_problem(429, "quota_exceeded");

    // The server was idle all the time, and its alerts know it.
    let metrics = get(&server.address, "/metrics").await;
    let line = |start: &str| {
        metrics
            .text()
            .lines()
            .filter(|line| line.starts_with(start))
            .count()
    };
    assert_eq!(line("patchlight_quota_exceeded_total 2"), 1);
    let mut shed = metrics
        .text()
        .lines()
        .filter(|line| line.starts_with("patchlight_shed_total{"));
    assert!(shed.all(|line| line.ends_with(" 0")), "{}", metrics.text());
}
