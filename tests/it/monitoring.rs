//! `k8s/monitoring/` against a real Prometheus: rules, alerts that fire, every query of the
//! dashboard.

mod prometheus;

use std::{fs, path::Path, process::Command, time::Duration};

use futures_util::future::join_all;
use hyper::Method;
use serde_json::Value;

use self::prometheus::Prometheus;
use crate::{
    client::{get, post, send},
    external_services::has,
    process::{Server, models},
};

/// What needs longer than this has failed; generous, since machines are slow.
const SCRAPE_TIMEOUT: u32 = 240;

/// Queries that may be empty: this machine need not have a memory limit.
const MAY_BE_EMPTY: &str = "patchlight_memory_limit_bytes";

#[test]
fn rules_are_valid_and_fire_in_virtual_time_as_their_tests_say() {
    if is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("patchlight.rules.yaml");
    fs::write(&rules, rules_for_prometheus()).unwrap();
    let tests = folder.path().join("rules.test.yaml");
    fs::write(&tests, read("rules.test.yaml")).unwrap();
    promtool(&["check", "rules"], &rules);
    promtool(&["test", "rules"], &tests);
}

#[test]
fn every_alert_has_its_place_in_the_runbook_and_its_test() {
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let runbook = fs::read_to_string(runbook).unwrap();
    let rules = read("rules.yaml");
    let tests = read("rules.test.yaml");
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(runbook.contains(&format!("\n### {alert}\n")), "{alert}");
        assert!(tests.contains(alert), "{alert}");
        let anchor = format!("docs/operations.md#{}", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{anchor}");
    }
}

#[tokio::test]
async fn a_real_prometheus_scrapes_alerts_and_answers_the_dashboard() {
    if is_missing() {
        return;
    }
    // Long enough not ready to be seen.
    let server = Server::start(&["--drain-delay", "1h", "--drain-timeout", "1s"]);
    let address = server.address.clone();
    let prometheus = Prometheus::start(&address, &accelerated(&rules_for_prometheus()));

    // Traffic of every kind, going on until its effects are seen.
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let mut shedding = false;
    let mut slow = false;
    for _ in 0..SCRAPE_TIMEOUT {
        let crowd = join_all((0..8).map(|_| post(&address, "/classify", dog.clone())));
        // While the engine is busy it needs longer than a microsecond and knows it. An idle one lets
        // a request in whatever it expects, and its deadline passes.
        let hurried = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for _ in 0..8 {
                let hurry = [("request-timeout", "0.000001")];
                let answer = send(&address, Method::POST, "/classify", &hurry, dog.clone()).await;
                match answer.status.as_u16() {
                    503 => answer.is_problem(503, "overloaded"),
                    _ => answer.is_problem(504, "deadline_passed"),
                }
            }
        };
        let (answers, ()) = tokio::join!(crowd, hurried);
        for answer in answers {
            assert_eq!(answer.status, 200);
            let map = answer.json()["attention"]["url"].clone();
            assert_eq!(get(&address, map.as_str().unwrap()).await.status, 200);
        }
        let firing = prometheus.firing().await;
        shedding |= firing.contains(&"PatchlightShedding".to_owned());
        slow |= firing.contains(&"PatchlightSlow".to_owned());
        if shedding && slow {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(shedding && slow, "shedding {shedding}, slow {slow}");
    for quiet in [
        "PatchlightErrors",
        "PatchlightInferenceFailures",
        "PatchlightDecodePanics",
        "PatchlightNotReady",
        "PatchlightDown",
        "PatchlightGone",
        "PatchlightRestarting",
    ] {
        assert!(
            !prometheus.firing().await.contains(&quiet.to_owned()),
            "{quiet}"
        );
    }

    for query in dashboard() {
        let found = prometheus.query(&query).await;
        assert!(
            found > 0 || query.contains(MAY_BE_EMPTY),
            "no data: {query}"
        );
    }

    server.signal("TERM");
    prometheus.wait_for("PatchlightNotReady").await;
    drop(server);
    prometheus.wait_for("PatchlightDown").await;
}

/// Dogs for a while, then a grey area that the model can make nothing of.
#[tokio::test]
async fn images_of_another_kind_set_off_the_alerts_for_drift() {
    if is_missing() {
        return;
    }
    let server = Server::demo();
    let address = server.address.clone();
    let prometheus = Prometheus::start(&address, &accelerated(&rules_for_prometheus()));
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let mut grey = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(64, 64, image::Luma([128]))
        .write_to(&mut grey, image::ImageFormat::Png)
        .unwrap();
    let grey = grey.into_inner();
    let drift = ["PatchlightEntropyShifted", "PatchlightLabelsShifted"];

    for _ in 0..80 {
        assert_eq!(post(&address, "/classify", dog.clone()).await.status, 200);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let quiet = prometheus.firing().await;
    assert!(
        !drift
            .iter()
            .any(|alert| quiet.contains(&(*alert).to_owned())),
        "{quiet:?}"
    );

    for _ in 0..SCRAPE_TIMEOUT {
        assert_eq!(post(&address, "/classify", grey.clone()).await.status, 200);
        let firing = prometheus.firing().await;
        if drift
            .iter()
            .all(|alert| firing.contains(&(*alert).to_owned()))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("no alert for drift");
}

/// Whether the tests must be left out, which is said.
fn is_missing() -> bool {
    !(has("prometheus") && has("promtool"))
}

fn promtool(command: &[&str], file: &Path) {
    let ran = Command::new("promtool").args(command).arg(file).output();
    let ran = ran.expect("promtool runs");
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/monitoring");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// What the operator would hand to Prometheus: the `spec` of the resource.
fn rules_for_prometheus() -> String {
    let resource = read("rules.yaml");
    let (_, spec) = resource.split_once("\nspec:\n").expect("a spec");
    spec.lines()
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
        .collect()
}

/// The same rules with seconds for minutes, no waiting before an alert, and an objective that
/// nothing meets.
fn accelerated(rules: &str) -> String {
    let mut fast = rules.replace("vector(2)", "vector(0.0001)");
    for (slow, quick) in [("[5m]", "[10s]"), ("[15m]", "[15s]"), ("[1h]", "[60s]")] {
        assert!(fast.contains(slow), "{slow}");
        fast = fast.replace(slow, quick);
    }
    // The longer first, since it has the shorter in it.
    for (slow, quick) in [
        ("[1d] offset 2h", "[60s] offset 15s"),
        ("[2h]", "[15s]"),
        ("> 200)", "> 5)"),
        ("> 1000)", "> 5)"),
    ] {
        assert!(fast.contains(slow), "{slow}");
        fast = fast.replace(slow, quick);
    }
    for duration in ["for: 5m", "for: 10m", "for: 15m", "for: 30m"] {
        assert!(fast.contains(duration), "{duration}");
        fast = fast.replace(duration, "for: 0s");
    }
    fast
}

/// Every query of the dashboard, as Grafana would send it.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<String> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .map(|query| {
            query
                .replace("$__rate_interval", "30s")
                .replace("$job", ".*")
                .replace("$instance", ".*")
        })
        .collect();
    assert!(queries.len() > 20 && !queries.iter().any(|query| query.contains('$')));
    queries
}
