//! From a model's name to a running service: a hub on the loopback, and machines that have never
//! seen it.

pub(crate) mod addresses;
mod clients;
#[path = "../../crates/sources/tests/it/stand_in.rs"]
mod stand_in;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};

use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::stand_in::{Access, Fault, StandIn};
use crate::{
    client::{Answer, get, post, send},
    process::{Server, models, program},
};

/// Fast enough for tests, and nothing is in flight when they end.
const DRAIN: [&str; 2] = ["--drain-delay", "0s"];

/// A machine with an empty home that knows the hub.
struct Machine {
    home: TempDir,
    endpoint: String,
}

impl Machine {
    fn new(hub: &StandIn) -> Self {
        Self {
            home: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            endpoint: hub.endpoint(),
        }
    }

    /// The program as it runs there.
    fn program(&self) -> Command {
        let mut command = program();
        for name in [
            "XDG_CACHE_HOME",
            "HF_HOME",
            "HF_HUB_CACHE",
            "HF_TOKEN",
            "HF_HUB_OFFLINE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.home.path())
            .env("HF_ENDPOINT", &self.endpoint);
        command
    }

    fn serve(&self, flags: &[&str]) -> Server {
        Server::start_by(self.program(), "127.0.0.1:0", &[&DRAIN[..], flags].concat())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program().args(arguments).output().unwrap()
    }

    /// What a command prints that works.
    fn printed(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {error}");
        String::from_utf8(done.stdout).unwrap()
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(name)
}

/// A hub with a tiny real checkpoint.
fn hub() -> (StandIn, String) {
    let hub = StandIn::start();
    let commit = hub.commit_directory("org/tiny-vit", &golden("transformers/plain"));
    (hub, commit)
}

/// Logits of the golden's input, by the Open Inference Protocol, against those of transformers.
async fn agrees_with_transformers(server: &Server, model: &str) {
    let expected = fs::read(golden("transformers/plain/expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let flat = |value: &Value| -> Vec<f64> {
        fn walk(value: &Value, into: &mut Vec<f64>) {
            match value {
                Value::Array(values) => values.iter().for_each(|value| walk(value, into)),
                value => into.push(value.as_f64().unwrap()),
            }
        }
        let mut found = Vec::new();
        walk(value, &mut found);
        found
    };
    let pixels = flat(&expected["pixel_values"]);
    let images = expected["logits"].as_array().unwrap().len();
    let side = ((pixels.len() / images / 3) as f64).sqrt() as usize;
    let request = json!({
        "inputs": [{
            "name": "pixel_values", "datatype": "FP32", "shape": [images, 3, side, side], "data": pixels,
        }],
        "outputs": [{"name": "logits"}],
    });
    let path = format!("/v2/models/{model}/infer");
    let answer = post(&server.address, &path, request.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let found = flat(&answer.json()["outputs"][0]["data"]);
    let wanted = flat(&expected["logits"]);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() < 1e-4, "{found} is not {wanted}");
    }
}

async fn classify(server: &Server) -> Answer {
    let image = fs::read(models("samples/dog.jpg")).unwrap();
    post(&server.address, "/classify", image).await
}

#[tokio::test]
async fn a_name_answers_images_on_a_new_machine_and_again_without_a_network() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    let server = machine.serve(&["--model", "hf://org/tiny-vit"]);
    agrees_with_transformers(&server, "tiny-vit").await;
    let answer = classify(&server).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["model"], "tiny-vit");
    let log = server.start_up.join("\n");
    assert!(
        log.contains("imported source=") && log.contains(&commit),
        "{log}"
    );
    drop(server);

    hub.requests();
    hub.set_down(true);
    let server = machine.serve(&["--model", "org/tiny-vit"]);
    agrees_with_transformers(&server, "tiny-vit").await;
    let log = server.start_up.join("\n");
    assert!(log.contains("nobody was asked"), "{log}");
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn a_name_of_ones_own_goes_before_an_address() {
    let (hub, _) = hub();
    let server = Machine::new(&hub).serve(&["--model", "pets=hf://org/tiny-vit@main"]);
    agrees_with_transformers(&server, "pets").await;
}

#[tokio::test]
async fn kill_9_in_the_middle_of_a_download_leaves_nothing_half() {
    let (hub, _) = hub();
    let weights = fs::metadata(golden("transformers/plain/model.safetensors")).unwrap();
    hub.misbehave(&[Fault::StallAfter(weights.len() as usize / 2)]);
    let machine = Machine::new(&hub);
    let mut child = machine
        .program()
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--model",
            "hf://org/tiny-vit",
        ])
        .spawn()
        .unwrap();
    while !hub.requests().iter().any(|asked| asked.storage) {
        thread::sleep(Duration::from_millis(10));
    }
    // For half of the weights to be here.
    thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    let cache = machine.home.path().join(".cache/patchlight");
    assert!(!cache.join("records").exists());

    let server = machine.serve(&["--model", "hf://org/tiny-vit"]);
    agrees_with_transformers(&server, "tiny-vit").await;
    let asked = hub.requests();
    let range = asked.iter().find_map(|asked| asked.header("range"));
    assert!(range.is_some(), "the download did not go on: {asked:?}");
}

#[test]
fn a_signal_ends_a_download_at_once() {
    let (hub, _) = hub();
    hub.misbehave(&[Fault::Unavailable; 50]);
    let machine = Machine::new(&hub);
    let child = machine
        .program()
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--model",
            "hf://org/tiny-vit",
        ])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !hub.requests().iter().any(|asked| asked.storage) {
        thread::sleep(Duration::from_millis(10));
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("interrupted"), "{said}");
}

#[tokio::test]
async fn refusals_of_the_hub_end_the_start_with_what_to_do() {
    let (hub, _) = hub();
    hub.set_access("org/tiny-vit", Access::Gated);
    let machine = Machine::new(&hub);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--model"];
    let refused = |source: &str| {
        let done = machine.run(&[&serve[..], &[source]].concat());
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let (status, said) = refused("hf://org/tiny-vit");
    assert_eq!(status, Some(1));
    assert!(
        said.contains("gated") && said.contains("HF_TOKEN"),
        "{said}"
    );
    let (status, said) = refused("models/nothing");
    assert_eq!(status, Some(1));
    assert!(said.contains("there is no model models/nothing"), "{said}");
    let (status, said) = refused("ftp://host/model");
    assert_eq!(status, Some(64));
    assert!(said.contains("--model"), "{said}");
}

#[test]
fn import_inspect_and_classify_take_a_name() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    let out = machine.home.path().join("model");
    let out = out.to_str().unwrap();
    machine.printed(&["import", "hf://org/tiny-vit", "--out", out]);
    let shown = machine.printed(&["inspect", out]);
    for expected in ["hf://org/tiny-vit", &commit, "model.safetensors"] {
        assert!(
            shown.contains(expected),
            "{expected} is missing in\n{shown}"
        );
    }
    let dog = models("samples/dog.jpg");
    let dog = dog.to_str().unwrap();
    let by_name = machine.printed(&["classify", "--json", "--model", "hf://org/tiny-vit", dog]);
    let by_directory = machine.printed(&["classify", "--json", "--model", out, dog]);
    let labels = |text: &str| serde_json::from_str::<Value>(text).unwrap()["predictions"].clone();
    assert_eq!(labels(&by_name), labels(&by_directory));
}

#[test]
fn what_is_kept_is_listed_and_removed() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    let dog = models("samples/dog.jpg");
    machine.printed(&[
        "classify",
        "--model",
        "hf://org/tiny-vit",
        dog.to_str().unwrap(),
    ]);
    let listed = machine.printed(&["cache", "list", "--json"]);
    let entry: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!(entry["source"], "hf://org/tiny-vit");
    assert_eq!(entry["revision"], commit.as_str());
    assert_eq!(entry["precision"], "fp32");
    assert_eq!(entry["current"], true);
    let directory = PathBuf::from(entry["directory"].as_str().unwrap());
    assert!(directory.join("model.toml").is_file());
    assert!(
        machine
            .printed(&["cache", "list"])
            .contains("hf://org/tiny-vit at ")
    );

    machine.printed(&["cache", "prune"]);
    assert!(directory.exists(), "what a start would take is gone");
    machine.printed(&["cache", "prune", "hf://org/tiny-vit"]);
    assert!(!directory.exists());
    assert_eq!(machine.printed(&["cache", "list"]), "");
}

#[tokio::test]
async fn models_are_added_by_name_while_others_answer() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let (hub, _) = hub();
    let machine = Machine::new(&hub);
    let keys = machine.home.path().join("keys");
    fs::write(&keys, format!("{KEY}\n")).unwrap();
    let keys = keys.to_str().unwrap();
    let server = machine.serve(&["--admin-listen", "127.0.0.1:0", "--api-key-file", keys]);
    let admin = server.admin();
    let bearer = format!("Bearer {KEY}");
    let ask = |method, path: &'static str, body: Value| {
        let (admin, bearer) = (admin.clone(), bearer.clone());
        async move {
            send(
                &admin,
                method,
                path,
                &[("authorization", &bearer)],
                body.to_string(),
            )
            .await
        }
    };
    let added = ask(
        Method::POST,
        "/admin/models",
        json!({"source": "hf://org/tiny-vit"}),
    )
    .await;
    assert_eq!(added.status, 201, "{}", added.text());
    assert_eq!(added.json()["model"]["name"], "tiny-vit");
    let body = json!({"source": "hf://org/tiny-vit"});
    let put = ask(Method::PUT, "/admin/models/pets", body).await;
    assert_eq!(put.status, 201, "{}", put.text());
    let wrong = json!({"source": "hf://org/nothing"});
    let wrong = ask(Method::POST, "/admin/models", wrong).await;
    wrong.is_problem(422, "model_refused");
    assert!(
        wrong.text().contains("there is no model org/nothing"),
        "{}",
        wrong.text()
    );
    let both = json!({"source": "hf://a/b", "directory": "/models/a"});
    let both = ask(Method::PUT, "/admin/models/x", both).await;
    both.is_problem(400, "malformed_request");
    let listed = ask(Method::GET, "/admin/models", json!({})).await.json();
    assert_eq!(listed["models"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_task_of_hugging_face_answers_labels_and_the_id_of_the_map() {
    let server = Server::demo();
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let classified = post(&server.address, "/classify?top_k=3", dog.clone())
        .await
        .json();
    let path = "/models/demo";
    let answer = post(&server.address, path, dog.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let labels = answer.json();
    assert_eq!(labels.as_array().unwrap().len(), 5);
    for at in 0..3 {
        let wanted = &classified["predictions"][at];
        assert_eq!(labels[at]["label"], wanted["label"]);
        assert_eq!(labels[at]["score"], wanted["score"]);
    }
    let map = format!("/attention/{}?format=json", answer.header("x-attention-id"));
    assert_eq!(get(&server.address, &map).await.status, 200);

    let by_default = post(&server.address, "/", dog.clone()).await;
    assert_eq!(by_default.json(), labels);
    let json = |parameters: Value| {
        use base64::Engine;
        let inputs = base64::engine::general_purpose::STANDARD.encode(&dog);
        json!({"inputs": inputs, "parameters": parameters}).to_string()
    };
    let ask = |body: String| {
        let address = server.address.clone();
        async move {
            let kind = [("content-type", "application/json")];
            send(&address, Method::POST, "/", &kind, body).await
        }
    };
    // More than there are is all of them, as transformers' own pipeline has it.
    let all = ask(json(json!({"top_k": 10_000, "function_to_apply": "none"})))
        .await
        .json();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 72);
    let logits: Vec<f64> = all
        .iter()
        .map(|label| label["score"].as_f64().unwrap())
        .collect();
    assert!(logits[0] > 1.0 && logits[71] < 0.0, "{logits:?}");
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    let softmax = logits[0].exp() / sum;
    assert!((softmax - labels[0]["score"].as_f64().unwrap()).abs() < 1e-5);
    let sigmoid = ask(json(json!({"top_k": 1, "function_to_apply": "sigmoid"})))
        .await
        .json();
    let wanted = 1.0 / (1.0 + (-logits[0]).exp());
    assert!((sigmoid[0]["score"].as_f64().unwrap() - wanted).abs() < 1e-5);

    let broken = post(&server.address, "/models/demo", "no image").await;
    assert_eq!(broken.status, 415);
    assert!(broken.json()["error"].is_string(), "{}", broken.text());
    let nobody = post(&server.address, "/models/nobody", dog.clone()).await;
    assert_eq!(nobody.status, 404);
    assert_eq!(nobody.json()["code"], "no_such_model");
    let unknown = ask(json(json!({"topk": 1}))).await;
    assert_eq!(unknown.status, 400);
    assert!(unknown.json()["error"].as_str().unwrap().contains("topk"));
}
