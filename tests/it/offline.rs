//! `patchlight classify` on many images: shards, lists, parts, and what a kill costs.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::process::{models, program};

const JOB_INDEX: &str = "JOB_COMPLETION_INDEX";

/// The program, away from a Job that this test may itself run in.
fn classify(arguments: &[&str]) -> Command {
    let mut command = program();
    command
        .env_remove(JOB_INDEX)
        .arg("classify")
        .args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last one has to exit with 0.
fn done(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The small samples, again and again; a list of so many.
fn list(count: usize) -> (Vec<String>, String) {
    let samples = ["dog.jpg", "pizza.webp", "mushroom.jpg"];
    let samples = samples.map(|name| models("samples").join(name).display().to_string());
    let paths: Vec<String> = samples.iter().cycle().take(count).cloned().collect();
    let text = paths.join("\n");
    (paths, text)
}

/// Whole parts in `folder` by name, and that nothing else is there.
fn parts(folder: &Path) -> BTreeMap<PathBuf, Vec<Value>> {
    let entries = fs::read_dir(folder).unwrap();
    let parts = entries.map(|entry| {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        assert_eq!(path.extension().unwrap(), "jsonl", "{}", path.display());
        (path, lines.collect())
    });
    parts.collect()
}

fn files(parts: &BTreeMap<PathBuf, Vec<Value>>) -> Vec<String> {
    let lines = parts.values().flatten();
    lines
        .map(|line| line["file"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_pods_of_an_indexed_job_share_a_list_and_each_writes_parts() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, lines) = list(11);
    let list = folder.path().join("list.txt");
    fs::write(&list, lines).unwrap();
    let out = folder.path().join("results/labels.jsonl");
    for index in ["0", "1", "2"] {
        let output = classify(&["--list", list.to_str().unwrap()])
            .args(["--shard-count", "3", "--part-size", "2", "--top-k", "1"])
            .args(["--out", out.to_str().unwrap()])
            .env(JOB_INDEX, index)
            .output();
        let output = output.unwrap();
        done(&output);
        assert!(output.stdout.is_empty());
    }
    let parts = parts(out.parent().unwrap());
    let names: Vec<&str> = parts
        .keys()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "labels-00000-of-00003.000000.jsonl",
            "labels-00000-of-00003.000001.jsonl",
            "labels-00001-of-00003.000000.jsonl",
            "labels-00001-of-00003.000001.jsonl",
            "labels-00002-of-00003.000000.jsonl",
            "labels-00002-of-00003.000001.jsonl",
        ]
    );
    let (mut found, mut expected) = (files(&parts), paths);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let first = &parts.values().next().unwrap()[0];
    assert_eq!(first["predictions"][0]["label"], "dog");
    assert_eq!(first["model_digest"].as_str().unwrap().len(), 64);
}

/// What a killed run has written stays as it is, and what the next one writes is the rest.
#[test]
fn a_killed_shard_repeats_one_part_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, lines) = list(300);
    let out = folder.path().join("labels.jsonl");
    let flags = [
        "--list",
        "-",
        "--part-size",
        "10",
        "--out",
        out.to_str().unwrap(),
    ];
    let mut child = classify(&flags).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    let whole = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                !name.to_string_lossy().starts_with('.')
            })
            .count()
    };
    while whole(folder.path()) < 3 {
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "it ended before it could be killed"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    let before = whole(folder.path());
    assert!((3..30).contains(&before), "{before}");
    let written = |folder: &Path| -> BTreeMap<PathBuf, _> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let whole = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        whole
            .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
            .collect()
    };
    let kept = written(folder.path());

    let run_again = |flags: &[&str]| {
        let mut child = classify(flags)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
        child.wait_with_output().unwrap()
    };
    let refused = run_again(&flags);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("--resume"),
        "{}",
        text(&refused.stderr)
    );
    done(&run_again(&[&flags[..], &["--resume"]].concat()));
    for (path, time) in &kept {
        assert_eq!(written(folder.path())[path], *time, "{}", path.display());
    }
    assert_eq!(files(&parts(folder.path())), paths);
    // Nothing is left to do.
    done(&run_again(&[&flags[..], &["--resume"]].concat()));
}

#[test]
fn a_share_may_fail_and_more_may_not() {
    let folder = tempfile::tempdir().unwrap();
    let dog = models("samples/dog.jpg").display().to_string();
    let list = folder.path().join("list.txt");
    fs::write(&list, format!("{dog}\n/no/such/image.jpg\n{dog}\n{dog}\n")).unwrap();
    let run = |share: &str| {
        let output = classify(&["--json", "--max-failures", share])
            .arg("--list")
            .arg(&list)
            .output();
        output.unwrap()
    };
    let bearable = run("0.25");
    done(&bearable);
    let lines = text(&bearable.stdout);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1]["file"], "/no/such/image.jpg");
    assert!(lines[1]["error"].is_string());
    let too_many = run("0.2");
    assert_eq!(too_many.status.code(), Some(1));
    assert!(text(&too_many.stderr).contains("1 images got no labels, of 4"));
    for wrong in ["2", "-1", "some"] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn maps_and_evidence_are_columns_whose_accounts_close() {
    let dog = models("samples/dog.jpg");
    let output = classify(&["--json", "--maps", "--evidence"])
        .arg(&dog)
        .output()
        .unwrap();
    done(&output);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sum = |values: &Value| -> f64 {
        let values = values.as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap()).sum()
    };
    let map = &line["map"];
    assert_eq!(map["grid"], serde_json::json!([14, 14]));
    let whole = sum(&map["values"]) + map["prefix_mass"].as_f64().unwrap();
    assert!((whole - 1.0).abs() < 1e-4, "{whole}");
    let account = &line["evidence"];
    assert_eq!(account["class_id"], line["predictions"][0]["class_id"]);
    assert_eq!(account["values"].as_array().map(Vec::len), Some(196));
    let parts = ["unattributed", "residual"].map(|part| account[part].as_f64().unwrap());
    let logit = sum(&account["values"]) + parts[0] + parts[1];
    assert!(
        (logit - account["logit"].as_f64().unwrap()).abs() < 1e-4,
        "{logit}"
    );
}

#[test]
fn a_pod_that_does_not_know_of_how_many_does_nothing() {
    let dog = models("samples/dog.jpg");
    let output = classify(&[])
        .arg(&dog)
        .env(JOB_INDEX, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--shard-count"));
    let output = classify(&["--shard", "2/2"]).arg(&dog).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
