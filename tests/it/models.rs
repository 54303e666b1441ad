//! Several models in one server, and changing them while it answers.

mod administration;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::Method;
use tempfile::{NamedTempFile, TempDir};

use crate::{
    client::{self, Answer, get, post},
    process::{Server, models, program},
    service::sample,
};

const KEY: &str = "a-key-of-the-tests-0123456789";

/// A server with one model that lies in a folder of the test, and an admin listener.
struct Managed {
    server: Server,
    folder: TempDir,
    admin: String,
    _keys: NamedTempFile,
}

impl Managed {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_of_demo(&folder.path().join("first"));
        let keys = NamedTempFile::new().unwrap();
        fs::write(keys.path(), KEY).unwrap();
        let first = folder.path().join("first");
        let always = [
            "--model",
            first.to_str().unwrap(),
            "--api-key-file",
            keys.path().to_str().unwrap(),
            "--admin-listen",
            "127.0.0.1:0",
            "--request-timeout",
            "4m",
            "--drain-delay",
            "0s",
        ];
        let server = Server::start(&[&always, flags].concat());
        Self {
            admin: server.admin(),
            server,
            folder,
            _keys: keys,
        }
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn classify(&self, query: &str) -> Answer {
        let path = format!("/classify{query}");
        keyed(&self.server.address, Method::POST, &path, sample("dog.jpg")).await
    }

    async fn admin(&self, method: Method, path: &str, body: &str) -> Answer {
        keyed(&self.admin, method, path, body.to_owned()).await
    }

    /// Serves the model of this folder under this name.
    async fn put(&self, name: &str, directory: &str) -> Answer {
        let body = serde_json::json!({ "directory": self.directory(directory) });
        let path = format!("/admin/models/{name}");
        self.admin(Method::PUT, &path, &body.to_string()).await
    }

    /// The log once it has a line with this word.
    async fn log_with(&self, word: &str) -> Vec<String> {
        for _ in 0..1000 {
            let log = self.server.log();
            if log.iter().any(|line| line.contains(word)) {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("`{word}` was not logged: {:#?}", self.server.log());
    }

    /// The digest of what is served under this name.
    async fn digest(&self, name: &str) -> String {
        let path = format!("/admin/models/{name}");
        let card = self.admin(Method::GET, &path, "").await;
        card.json()["digest"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

async fn keyed(address: &str, method: Method, path: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", authorization.as_str())];
    client::send(address, method, path, &headers, body).await
}

/// A copy of the demo under another name.
fn copy_of_demo(to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for name in ["model.onnx", "model.toml", "labels.txt"] {
        fs::copy(models("demo").join(name), to.join(name)).expect("a copy");
    }
}

/// The same model with another digest.
fn touch(directory: &Path) {
    let manifest = OpenOptions::new()
        .append(true)
        .open(directory.join("model.toml"));
    writeln!(manifest.unwrap(), "# another version").unwrap();
}

/// The graph cut in half.
fn truncate(directory: &Path) {
    let graph = OpenOptions::new()
        .write(true)
        .open(directory.join("model.onnx"))
        .unwrap();
    let length = graph.metadata().unwrap().len();
    graph.set_len(length / 2).unwrap();
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
        "--request-timeout",
        "4m",
    ]);
    for (query, name) in [
        ("", "demo"),
        ("?model=demo", "demo"),
        ("?model=second", "second"),
    ] {
        let path = format!("/classify{query}");
        let answer = post(&server.address, &path, sample("dog.jpg")).await;
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

#[test]
fn administration_without_keys_is_a_bad_configuration() {
    let refused = program()
        .args(["serve", "--admin-listen", "127.0.0.1:0"])
        .output()
        .expect("the program runs");
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("--api-key-file"), "{said}");
}

#[tokio::test]
async fn models_change_under_load_and_every_request_is_answered() {
    let managed = Arc::new(Managed::start());
    let before = managed.classify("").await.json();
    let digest = managed.digest("first").await;

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (managed, stop) = (Arc::clone(&managed), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = managed.classify("").await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered += 1;
                }
                answered
            })
        })
        .collect();

    // Another directory under the same name, the same directory anew, and a changed one by signal.
    copy_of_demo(&managed.directory("second"));
    touch(&managed.directory("second"));
    let replaced = managed.put("first", "second").await;
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    assert_eq!(replaced.json()["outcome"], "replaced");
    assert_ne!(managed.digest("first").await, digest);
    let reloaded = managed
        .admin(Method::POST, "/admin/models/first/reload", "")
        .await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let digest = managed.digest("first").await;
    touch(&managed.directory("second"));
    managed.server.signal("HUP");
    let started = Instant::now();
    while managed.digest("first").await == digest {
        assert!(started.elapsed() < Duration::from_secs(240), "no reload");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Added, asked, removed.
    let added = managed.put("extra", "second").await;
    assert_eq!(added.status, 201, "{}", added.text());
    let answer = managed.classify("?model=extra").await;
    assert_eq!(answer.json()["model"], "extra");
    let removed = managed
        .admin(Method::DELETE, "/admin/models/extra", "")
        .await;
    assert_eq!(removed.status, 204, "{}", removed.text());
    managed
        .classify("?model=extra")
        .await
        .is_problem(404, "no_such_model");

    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.expect("only 200 is allowed") > 0);
    }

    // The map of the model before last is still there, and its worker is not.
    let url = before["attention"]["url"].as_str().unwrap();
    let map = keyed(&managed.server.address, Method::GET, url, "").await;
    assert_eq!(map.status, 200);
    #[cfg(target_os = "linux")]
    {
        let started = Instant::now();
        while managed.server.threads("batch") > 1 {
            assert!(started.elapsed() < Duration::from_secs(60), "old workers");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_bad_model_is_refused_with_the_reason_and_the_old_one_serves_on() {
    let mut managed = Managed::start();
    let digest = managed.digest("first").await;
    copy_of_demo(&managed.directory("cut"));
    truncate(&managed.directory("cut"));
    let refused = managed.put("first", "cut").await;
    refused.is_problem(422, "model_refused");
    assert!(refused.text().contains("model.onnx"), "{}", refused.text());
    managed
        .put("first", "nowhere")
        .await
        .is_problem(422, "model_refused");
    managed
        .put("another", "cut")
        .await
        .is_problem(422, "model_refused");

    // The directory that is served is damaged: neither a call nor a signal takes it.
    truncate(&managed.directory("first"));
    managed
        .admin(Method::POST, "/admin/models/first/reload", "")
        .await
        .is_problem(422, "model_refused");
    managed.server.signal("HUP");
    assert_eq!(managed.classify("").await.status, 200);
    assert_eq!(managed.digest("first").await, digest);
    managed
        .classify("?model=another")
        .await
        .is_problem(404, "no_such_model");

    managed.server.signal("TERM");
    assert_eq!(managed.server.wait().code(), Some(0));
}
