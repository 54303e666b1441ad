//! A Prometheus as a child process, scraping one server every second.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::SCRAPE_TIMEOUT;
use crate::client::{Answer, get};

/// Killed when dropped.
pub(super) struct Prometheus {
    child: Child,
    address: String,
    folder: TempDir,
}

impl Prometheus {
    /// Scrapes `target` (an address and port) as the job `patchlight` under these rules.
    pub(super) fn start(target: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let settings = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yaml]\n\
             scrape_configs:\n\
             - job_name: patchlight\n\
             \x20 static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(path("rules.yaml"), rules).unwrap();
        fs::write(path("prometheus.yaml"), settings).unwrap();
        let log = File::create(path("log")).unwrap();
        let address = free_address();
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                path("prometheus.yaml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        Self {
            child,
            address,
            folder,
        }
    }

    /// Names of the alerts that fire; none while it starts.
    pub(super) async fn firing(&self) -> Vec<String> {
        if tokio::net::TcpStream::connect(&self.address).await.is_err() {
            return Vec::new();
        }
        let answer = get(&self.address, "/api/v1/alerts").await;
        if answer.status != 200 {
            return Vec::new();
        }
        answer.json()["data"]["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until an alert fires.
    pub(super) async fn wait_for(&self, alert: &str) {
        for _ in 0..SCRAPE_TIMEOUT {
            if self.firing().await.iter().any(|firing| firing == alert) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{alert} did not fire:\n{}", self.log());
    }

    /// How many series a query finds now.
    pub(super) async fn query(&self, query: &str) -> usize {
        let parameters = serde_urlencoded::to_string([("query", query)]).unwrap();
        let answer: Answer = get(&self.address, &format!("/api/v1/query?{parameters}")).await;
        let found: Value = answer.json();
        assert_eq!(found["status"], "success", "{query}: {found}");
        found["data"]["result"].as_array().map_or(0, Vec::len)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prometheus cannot say which port it got, so it is told one that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
