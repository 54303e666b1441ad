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
