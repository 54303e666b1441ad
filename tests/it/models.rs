//! Several models in one server.

use std::{fs, path::Path};

use crate::{
    client::{get, post},
    process::{Server, models, program},
    service::sample,
};

/// A copy of the demo under another name.
pub(crate) fn copy_of_demo(to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for name in ["model.onnx", "model.toml", "labels.txt"] {
        fs::copy(models("demo").join(name), to.join(name)).expect("a copy");
    }
}

#[tokio::test]
async fn each_model_answers_under_its_name_and_the_first_without_one() {
    let folder = tempfile::tempdir().unwrap();
    copy_of_demo(&folder.path().join("second"));
    let (demo, second) = (models("demo"), folder.path().join("second"));
    let server = Server::start(&[
        "--model",
        demo.to_str().unwrap(),
        "--model",
        second.to_str().unwrap(),
    ]);
    for (query, name) in [
        ("", "demo"),
        ("?model=demo", "demo"),
        ("?model=second", "second"),
    ] {
        let answer = post(
            &server.address,
            &format!("/classify{query}"),
            sample("dog.jpg"),
        )
        .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["model"], name);
        // One store: a map is found whichever model made it, and says which.
        let url = body["attention"]["url"].as_str().unwrap();
        let map = get(&server.address, &format!("{url}?format=json")).await;
        assert_eq!(map.json()["model"], name);
    }
    post(&server.address, "/classify?model=third", sample("dog.jpg"))
        .await
        .is_problem(404, "no_such_model");

    let metrics = get(&server.address, "/metrics").await;
    for line in [
        "patchlight_pictures_total{model=\"demo\"} 2",
        "patchlight_pictures_total{model=\"second\"} 1",
        "patchlight_batch_size_sum 3",
    ] {
        assert!(metrics.text().contains(line), "{line} is missing");
    }
}

#[test]
fn two_models_of_one_name_are_a_bad_configuration() {
    let refused = program()
        .args(["serve", "--model", "here/birds,there/birds"])
        .output()
        .expect("the program runs");
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("birds"), "{said}");
}
