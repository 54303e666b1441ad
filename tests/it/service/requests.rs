//! The ways in which images come, options, and what is wrong with a request.

use hyper::Method;
use serde_json::Value;

use super::{map_of, sample};
use crate::{
    client::{self, Answer, get, get_with, post},
    process::Server,
};

#[tokio::test]
async fn images_come_raw_in_multipart_and_in_json() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let server = Server::demo();
    let bytes = sample("dog.jpg");
    let label = |answer: &Answer| answer.json()["predictions"][0]["label"].clone();

    let json = format!(
        "{{\"image\": \"data:image/jpeg;base64,{}\"}}",
        STANDARD.encode(&bytes)
    );
    let headers = [("content-type", "application/json")];
    let answer = client::send(&server.address, Method::POST, "/classify", &headers, json).await;
    assert_eq!(label(&answer), "dog");

    // curl's default type for --data-binary says nothing of the content.
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = client::send(
        &server.address,
        Method::POST,
        "/classify",
        &headers,
        bytes.clone(),
    )
    .await;
    assert_eq!(label(&answer), "dog");

    let part = |name: &str, content: &[u8]| {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n"
        );
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let one = [part("file", &bytes), b"--b--\r\n".to_vec()].concat();
    let answer = client::send(&server.address, Method::POST, "/classify", &headers, one).await;
    assert_eq!(label(&answer), "dog");

    let several = [
        part("image", &bytes),
        part("image", b"not a picture"),
        part("image", &sample("penguin.jpg")),
        b"--b--\r\n".to_vec(),
    ]
    .concat();
    let answer = client::send(
        &server.address,
        Method::POST,
        "/classify",
        &headers,
        several,
    )
    .await;
    assert_eq!(answer.status, 200);
    let results = &answer.json()["results"];
    assert_eq!(results[0]["predictions"][0]["label"], "dog");
    assert_eq!(results[1]["code"], "unsupported_format");
    assert_eq!(results[2]["predictions"][0]["label"], "penguin");
}

#[tokio::test]
async fn options_shape_the_answer() {
    let server = Server::demo();
    let ask = async |query: &str| {
        post(
            &server.address,
            &format!("/classify?{query}"),
            sample("dog.jpg"),
        )
        .await
    };

    assert_eq!(
        ask("top_k=1").await.json()["predictions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let certain = ask("min_score=0.99999").await.json();
    assert!(certain["predictions"].as_array().unwrap().len() <= 1);
    let bare = ask("attention=none").await.json();
    assert_eq!(bare["attention"], Value::Null);
    assert!(bare["attention_note"].is_string());
    assert_eq!(ask("model=demo").await.status, 200);
    ask("model=other").await.is_problem(404, "no_such_model");
    ask("top_k=0").await.is_problem(400, "invalid_parameter");
    ask("top_k=100000")
        .await
        .is_problem(400, "invalid_parameter");
    ask("min_score=2")
        .await
        .is_problem(400, "invalid_parameter");
    ask("topk=1").await.is_problem(400, "malformed_request");
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let server = Server::start(&["--max-body", "200KiB", "--max-pixels", "300000"]);
    let address = &server.address;
    let image = sample("dog.jpg");

    post(address, "/classify", "")
        .await
        .is_problem(400, "malformed_request");
    post(address, "/classify", "hello")
        .await
        .is_problem(415, "unsupported_format");
    post(address, "/classify", image[..2000].to_vec())
        .await
        .is_problem(422, "image_undecodable");
    post(address, "/classify", sample("elephant.jpg"))
        .await
        .is_problem(422, "image_too_large");
    post(address, "/classify", vec![0; 201 << 10])
        .await
        .is_problem(413, "body_too_large");
    get(address, "/classify")
        .await
        .is_problem(405, "method_not_allowed");
    get(address, "/nowhere").await.is_problem(404, "not_found");

    let headers = [("request-timeout", "0.000001")];
    let late = client::send(address, Method::POST, "/classify", &headers, image.clone()).await;
    assert!(matches!(late.status.as_u16(), 503 | 504), "{}", late.text());

    let url = map_of(&post(address, "/classify", image).await);
    get_with(address, &url, &[("accept", "text/html")])
        .await
        .is_problem(406, "not_acceptable");
    get(address, &format!("{url}?format=gif"))
        .await
        .is_problem(400, "invalid_parameter");
    get(address, &format!("{url}?start_layer=99"))
        .await
        .is_problem(400, "invalid_parameter");
    get(address, &format!("{url}?layer=0&head=0"))
        .await
        .is_problem(409, "map_not_kept");
}

#[tokio::test]
async fn a_request_keeps_its_own_id() {
    let server = Server::demo();
    let answer = get_with(&server.address, "/nowhere", &[("x-request-id", "mine-7")]).await;
    assert_eq!(answer.header("x-request-id"), "mine-7");
    assert_eq!(answer.json()["request_id"], "mine-7");
}
