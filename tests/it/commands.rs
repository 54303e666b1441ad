//! `patchlight completions`, `man`, `classify` and `bench`, as scripts use them.

use std::{fs, process::Output};

use crate::process::{models, program};

fn run(arguments: &[&str]) -> Output {
    program()
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let written = run(&["completions", shell]);
        assert!(written.status.success());
        let script = text(&written.stdout);
        for command in ["serve", "import", "classify", "inspect", "health", "man"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(run(&["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_manual_page_for_the_program_and_for_each_command() {
    let page = run(&["man"]);
    assert!(page.status.success());
    assert!(text(&page.stdout).contains(".TH patchlight 1"));
    let page = run(&["man", "import"]);
    assert!(text(&page.stdout).contains("patchlight-import"));
    assert!(text(&page.stdout).contains("head\\-fusion"));
    let wrong = run(&["man", "another"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("`another`"));
}

#[test]
fn classify_takes_patterns_and_answers_json_lines_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["dog.jpg", "rocket.jpg"] {
        fs::copy(models("samples").join(name), folder.path().join(name)).unwrap();
    }
    let pattern = folder.path().join("*.jpg");
    let done = run(&[
        "classify",
        "--json",
        "--top-k",
        "1",
        pattern.to_str().unwrap(),
    ]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let lines = text(&done.stdout).lines();
    let labels: Vec<String> = lines
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["predictions"][0]["label"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(labels, ["dog", "rocket"]);
}

#[test]
fn classify_aligns_files_scores_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(models("samples/dog.jpg"), folder.path().join("dog.jpg")).unwrap();
    let longer = folder.path().join("the-rocket.jpg");
    fs::copy(models("samples/rocket.jpg"), &longer).unwrap();
    let place = folder.path().to_str().unwrap();

    let done = run(&["classify", "--top-k", "1", place]);
    let lines: Vec<&str> = text(&done.stdout).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("dog.jpg") && lines[0].ends_with(" %  dog"));
    assert!(lines[1].contains("the-rocket.jpg") && lines[1].ends_with(" %  rocket"));
    assert_eq!(lines[0].find(" %"), lines[1].find(" %"), "one column");

    let done = run(&["classify", "--top-k", "3", longer.to_str().unwrap()]);
    let lines: Vec<&str> = text(&done.stdout).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[1].starts_with("   "),
        "the name stands once: {lines:?}"
    );
}

#[test]
fn one_bad_image_makes_the_status_1_and_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jpg"), b"no picture").unwrap();
    fs::copy(models("samples/dog.jpg"), folder.path().join("b.jpg")).unwrap();
    let done = run(&["classify", "--json", folder.path().to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    let lines: Vec<&str> = text(&done.stdout).lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("\"error\"") && lines[1].contains("\"predictions\""));
}

#[test]
fn no_label_and_no_image_is_wrong_usage() {
    let samples = models("samples");
    let folder = samples.to_str().unwrap();
    for (command, flag) in [("classify", "--top-k"), ("evaluate", "--pictures")] {
        let done = run(&[command, flag, "0", folder]);
        assert_eq!(done.status.code(), Some(2), "{command}");
        let said = text(&done.stderr);
        assert!(said.contains(flag) && said.contains('0'), "{said}");
        assert!(done.stdout.is_empty(), "{command}");
    }
}

#[test]
fn an_unknown_resize_library_is_wrong_usage() {
    let done = run(&["import", "nowhere", "--out", "never", "--resize", "nearest"]);
    assert_eq!(done.status.code(), Some(2));
    let said = text(&done.stderr);
    assert!(
        said.contains("--resize: `nearest` is not one of pillow, torchvision"),
        "{said}"
    );
}

#[test]
fn bench_runs_named_images_in_several_sessions_and_reports_json() {
    let sample = models("samples").join("penguin.jpg");
    let done = run(&[
        "bench",
        "--sessions=2",
        "--threads=2",
        "--batch=3",
        "--seconds=1",
        "--images",
        sample.to_str().unwrap(),
        "--json",
    ]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["sessions"], 2);
    assert_eq!(report["threads"], 2);
    assert_eq!(report["decode"]["images"], 1);
    assert_eq!(report["decode"]["mean_bytes"], 30_240);
    let batch = &report["batches"][0];
    assert_eq!(batch["batch"], 3);
    assert!(batch["images_per_s"].as_f64() > Some(0.0));
    // Two sessions run at least five times each.
    assert!(batch["runs"].as_u64() >= Some(10));
    if cfg!(target_os = "linux") {
        let memory = &report["memory"];
        assert!(memory["peak_bytes"].as_u64() >= memory["loaded_bytes"].as_u64());
        assert!(memory["weight_bytes"].as_u64() > Some(1 << 20));
    }
}

#[test]
fn bench_names_what_is_no_image() {
    let file = models("samples").join("samples.json");
    let done = run(&["bench", "--images", file.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("samples.json"));
}
