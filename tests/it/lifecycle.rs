//! Starting, stopping, and the other commands.

use std::{fs, path::Path, process::Output, time::Duration};

use crate::{
    client::{get, post},
    process::{Server, models, program},
};

fn run(arguments: &[&str]) -> Output {
    program()
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn start_up_says_what_runs() {
    let server = Server::demo();
    let said = server.start_up.join("\n");
    for what in [
        "version",
        "onnxruntime",
        "device",
        "model",
        "digest",
        "listening on",
    ] {
        assert!(said.contains(what), "{what} is missing in\n{said}");
    }
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_zero() {
    let mut server = Server::start(&["--drain-delay", "2s"]);
    let address = server.address.clone();
    assert_eq!(get(&address, "/readyz").await.status, 200);
    server.signal("TERM");

    // Not ready any more, but still serving while load balancers find out.
    let mut ready = get(&address, "/readyz").await;
    for _ in 0..50 {
        if ready.status != 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        ready = get(&address, "/readyz").await;
    }
    ready.is_problem(503, "not_ready");
    assert!(!ready.header("retry-after").is_empty());
    assert_eq!(get(&address, "/healthz").await.status, 200);
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    assert_eq!(post(&address, "/classify", dog).await.status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn ctrl_c_stops_without_the_delay() {
    let mut server = Server::start(&["--drain-delay", "1h"]);
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn health_tells_ready_from_gone() {
    let server = Server::demo();
    let url = format!("http://{}", server.address);
    assert_eq!(run(&["health", &url]).status.code(), Some(0));
    drop(server);
    let gone = run(&["health", &url]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).contains(&url));
}

#[test]
fn wrong_usage_is_2_and_bad_configuration_64_with_every_fault() {
    assert_eq!(run(&["serve", "--no-such-flag"]).status.code(), Some(2));
    assert_eq!(run(&["import", "--out", "x"]).status.code(), Some(2));
    let bad = run(&["serve", "--max-batch", "0", "--device", "abacus"]);
    assert_eq!(bad.status.code(), Some(64));
    assert!(stderr(&bad).contains("--max-batch") && stderr(&bad).contains("--device"));
}

#[test]
fn a_device_that_is_not_there_fails_clearly() {
    let failed = run(&["serve", "--listen", "127.0.0.1:0", "--device", "cuda"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("cuda:0"), "{}", stderr(&failed));
}

#[test]
fn a_damaged_model_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "model.toml", "labels.txt"] {
        fs::copy(models("demo").join(name), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("labels.txt"), "cat\n").unwrap();
    let directory = folder.path().to_str().unwrap();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--model", directory]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("labels.txt"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(run(&["inspect", directory]).status.code(), Some(1));
}

#[test]
fn inspect_shows_the_demo() {
    let shown = run(&["inspect", models("demo").to_str().unwrap()]);
    assert_eq!(shown.status.code(), Some(0));
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        text.contains("[preprocess") && text.contains("prefix = 1"),
        "{text}"
    );
}

#[test]
fn the_demo_is_what_its_checkpoint_imports_to() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let imported = run(&[
        "import",
        models("demo/checkpoint").to_str().unwrap(),
        "--precision",
        "int8",
        "--check",
        models("samples").to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(imported.status.code(), Some(0), "{}", stderr(&imported));
    for name in ["model.onnx", "labels.txt"] {
        let shipped = fs::read(models("demo").join(name)).unwrap();
        assert!(
            fs::read(out.join(name)).unwrap() == shipped,
            "{name} differs from the shipped one"
        );
    }
    // What the check found depends on the images, which were more than the samples.
    let unchecked = |folder: &Path| {
        let text = fs::read_to_string(folder.join("model.toml")).unwrap();
        let (manifest, _) = text.split_once("[provenance.check]").unwrap();
        manifest.to_owned()
    };
    assert_eq!(unchecked(&out), unchecked(&models("demo")));
}

#[tokio::test]
async fn the_full_size_vit_l_16_is_imported_and_answers_with_a_caution() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("large");
    let out: &str = Path::to_str(&out).unwrap();
    let imported = run(&[
        "import",
        "--arch",
        "vit-l-16",
        "--random-weights",
        "--out",
        out,
    ]);
    assert_eq!(imported.status.code(), Some(0), "{}", stderr(&imported));

    let server = Server::start(&["--model", out, "--request-timeout", "5m"]);
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let answer = post(&server.address, "/classify?top_k=1000", dog).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["model"], "large");
    assert!(
        body["caution"]
            .as_str()
            .is_some_and(|caution| caution.contains("random")),
        "{body}"
    );
    let scores = body["predictions"].as_array().unwrap();
    assert_eq!(scores.len(), 1000);
    let sum: f64 = scores.iter().map(|p| p["score"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-3, "scores add up to {sum}");
    let url = body["attention"]["url"].as_str().unwrap();
    let map = get(&server.address, &format!("{url}?format=json"))
        .await
        .json();
    let mass: f64 = map["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .sum();
    assert!((mass + map["prefix_mass"].as_f64().unwrap() - 1.0).abs() < 1e-4);
}

#[test]
fn the_printed_configuration_is_one_that_serves() {
    let printed = run(&["serve", "--print-config"]);
    assert_eq!(printed.status.code(), Some(0));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &printed.stdout).unwrap();
    let path = file.path().to_str().unwrap();
    let server = Server::start(&["--config", path]);
    drop(server);

    fs::write(file.path(), "max-batch = 0\nnonsense = 1\n").unwrap();
    let refused = run(&["serve", "--config", path]);
    assert_eq!(refused.status.code(), Some(64));
    let said = stderr(&refused);
    assert!(
        said.contains("`max-batch`") && said.contains("`nonsense`"),
        "{said}"
    );
}
