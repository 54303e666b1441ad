//! What models do for nobody in particular must hold up neither a change nor the end.

use std::{process::Command, sync::Arc, time::Duration};

use hyper::Method;
use serde_json::Value;

use super::{Managed, copy_of_demo, keyed};
use crate::service::map_of;

impl Managed {
    /// Starts as many perturbation tests as one key may have; where they are.
    async fn start_tests(&self) -> Vec<String> {
        let mut jobs = Vec::new();
        for _ in 0..4 {
            let job = format!("{}/verify", map_of(&self.classify("").await));
            let started = keyed(&self.server.address, Method::POST, &job, "").await;
            assert_eq!(started.status, 202, "{}", started.text());
            jobs.push(job);
        }
        jobs
    }

    /// How a perturbation test ended.
    async fn ended(&self, job: &str) -> Value {
        loop {
            let status = keyed(&self.server.address, Method::GET, job, "").await;
            let status = status.json();
            if !matches!(status["status"].as_str(), Some("waiting" | "running")) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn reload(&self) {
        let path = "/admin/models/first/reload";
        let reloaded = self.admin(Method::POST, path, "").await;
        assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    }
}

#[tokio::test]
async fn tests_of_a_replaced_model_are_called_off_and_can_be_had_from_the_new_one() {
    let mut managed = Managed::start_with(&["--allow-verify", "--threads", "1"]);
    let jobs = managed.start_tests().await;
    managed.reload().await;
    // This one begins when the first model has gone.
    managed.reload().await;
    let mut called_off = Vec::new();
    for job in &jobs {
        let status = managed.ended(job).await;
        // A fast machine may have finished one or the other.
        if status["status"] != "done" {
            assert_eq!(status["status"], "failed", "{status}");
            assert_eq!(status["error"]["code"], "not_verifiable", "{status}");
            called_off.push(job);
        }
    }
    assert!(!called_off.is_empty(), "all were done before the reload");
    let metrics = managed.admin(Method::GET, "/metrics", "").await;
    let count = called_off.len();
    let line = format!("patchlight_verify_jobs_total{{outcome=\"cancelled\"}} {count}\n");
    assert!(metrics.text().contains(&line), "{}", metrics.text());

    // The directory holds the same model, so that the map can still be tested.
    let again = keyed(&managed.server.address, Method::POST, called_off[0], "").await;
    assert_eq!(again.status, 202, "{}", again.text());
    assert_eq!(managed.ended(called_off[0]).await["status"], "done");

    managed.start_tests().await;
    managed.server.signal("INT");
    assert_eq!(managed.server.wait().code(), Some(0));
}

/// As from a network file system that is away.
#[cfg(unix)]
#[tokio::test]
async fn a_model_whose_files_cannot_be_read_does_not_hold_up_the_end() {
    let managed = Managed::start_with(&["--drain-timeout", "2s"]);
    copy_of_demo(&managed.directory("away"));
    let manifest = managed.directory("away").join("model.toml");
    std::fs::remove_file(&manifest).unwrap();
    let made = Command::new("mkfifo").arg(&manifest).status();
    assert!(made.expect("mkfifo runs").success());
    let managed = Arc::new(managed);
    let put = Arc::clone(&managed);
    let put = tokio::spawn(async move { put.put("first", "away").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!put.is_finished(), "it waits for a manifest");
    put.abort();
    assert!(put.await.is_err());
    let mut managed = Arc::into_inner(managed).expect("the other one is gone");
    managed.server.signal("TERM");
    assert_eq!(managed.server.wait().code(), Some(0));
}
