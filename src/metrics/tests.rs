use std::{env, fs, path::Path};

use patchlight_engine::CardMemory;

use super::*;

/// Around the table in `docs/metrics.md`.
const MARKS: [&str; 2] = ["<!-- made from src/metrics.rs -->\n", "<!-- end -->"];

#[test]
fn text_has_the_names_that_the_contract_promises() {
    let metrics = Metrics::new().unwrap();
    metrics.request("/classify", 200, Duration::from_millis(15));
    metrics.batch(3, Duration::from_millis(30));
    metrics.describe_build("0", "0", "0");
    metrics.count_image("demo");
    metrics.ready(true);
    let text = metrics.encode(&[model("demo", 0)], 2).unwrap();
    for name in [
        "patchlight_requests_total{code=\"200\",endpoint=\"/classify\"} 1",
        "patchlight_request_duration_seconds_bucket",
        "patchlight_stage_duration_seconds_bucket{stage=\"inference\"",
        "patchlight_stage_duration_seconds_count{stage=\"render\"} 0",
        "patchlight_batch_size_sum 3",
        "patchlight_queue_depth 0",
        "patchlight_in_flight_requests 0",
        "patchlight_shed_total{reason=\"queue_full\"} 0",
        "patchlight_quota_exceeded_total 0",
        "patchlight_abandoned_total{stage=\"queue\"} 0",
        "patchlight_predicted_wait_seconds 0",
        "patchlight_batch_cost_seconds{model=\"demo\",size=\"3\"} 0.25",
        "patchlight_pictures_total{model=\"demo\"} 1",
        "patchlight_model_queue_depth{model=\"demo\"} 0",
        "patchlight_model_predicted_wait_seconds{model=\"demo\"} 0",
        "patchlight_attention_entries 2",
        "patchlight_attention_evicted_total 0",
        "patchlight_ready 1",
        "patchlight_model_info{",
        "patchlight_build_info{",
    ] {
        assert!(text.contains(name), "{name} is missing in:\n{text}");
    }
}

/// `# HELP` and docs/metrics.md name every value that the label can have.
#[test]
fn every_reason_of_shedding_is_in_its_help() {
    let metrics = Metrics::new().unwrap();
    let text = metrics.encode(&[], 0).unwrap();
    let help = "# HELP patchlight_shed_total ";
    let help = text.lines().find(|line| line.starts_with(help)).unwrap();
    let series = text.lines().filter_map(|line| {
        let label = line.strip_prefix("patchlight_shed_total{reason=\"")?;
        label.split('"').next()
    });
    let reasons: Vec<&str> = series.collect();
    assert!(
        reasons.len() >= 5 && !reasons.contains(&"quota"),
        "{reasons:?}"
    );
    for reason in reasons {
        assert!(help.contains(reason), "{reason} is missing in {help}");
    }
}

fn model(name: &str, waiting: usize) -> ModelState {
    ModelState {
        name: name.to_owned(),
        architecture: "ViT-Ti/16".to_owned(),
        precision: "fp32".to_owned(),
        digest: "0".to_owned(),
        device: "cuda:0,cuda:1".to_owned(),
        devices: vec![
            ServingDevice {
                name: "cuda:0".to_owned(),
                up: true,
                batch_limit: 16,
                memory: Some(CardMemory {
                    free: 3 << 30,
                    total: 80 << 30,
                }),
            },
            ServingDevice {
                name: "cuda:1".to_owned(),
                up: false,
                batch_limit: 64,
                memory: None,
            },
        ],
        waiting,
        predicted_wait: Duration::from_secs(waiting as u64),
        batch_latencies: vec![(3, 0.25)],
    }
}

#[test]
fn models_add_up_and_leave_nothing_behind() {
    let metrics = Metrics::new().unwrap();
    let both = metrics.encode(&[model("a", 2), model("b", 3)], 0).unwrap();
    for line in [
        "patchlight_queue_depth 5",
        "patchlight_predicted_wait_seconds 3",
        "patchlight_model_queue_depth{model=\"a\"} 2",
    ] {
        assert!(both.contains(line), "{line} is missing in:\n{both}");
    }
    let one = metrics.encode(&[model("b", 3)], 0).unwrap();
    assert!(!one.contains("model=\"a\""), "{one}");
}

#[test]
fn devices_say_how_they_are_and_cards_their_memory() {
    let metrics = Metrics::new().unwrap();
    let text = metrics.encode(&[model("a", 0)], 0).unwrap();
    for line in [
        "patchlight_device_up{device=\"cuda:0\",model=\"a\"} 1",
        "patchlight_device_up{device=\"cuda:1\",model=\"a\"} 0",
        "patchlight_batch_limit{device=\"cuda:0\",model=\"a\"} 16",
        "patchlight_device_memory_size_bytes{device=\"cuda:0\"} 85899345920",
        "patchlight_device_memory_free_bytes{device=\"cuda:0\"} 3221225472",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    // A driver that does not tell leaves no number behind.
    assert!(!text.contains("memory_size_bytes{device=\"cuda:1\"}"));
    assert!(
        !metrics
            .encode(&[], 0)
            .unwrap()
            .contains("device=\"cuda:0\"")
    );
}

#[test]
fn whatever_is_scraped_is_described_with_its_type() {
    let metrics = Metrics::new().unwrap();
    let text = metrics.encode(&[], 0).unwrap();
    for line in text.lines() {
        let Some(declared) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let described = metrics
            .described()
            .iter()
            .any(|metric| declared == format!("{} {}", metric.name, metric.kind));
        assert!(described, "{declared}");
    }
}

#[test]
fn durations_are_told_apart_at_a_millisecond_and_at_ten_seconds() {
    for seconds in [0.001, 10.0] {
        assert!(SECONDS.contains(&seconds));
    }
    assert!(SECONDS.windows(2).all(|pair| pair[1] / pair[0] <= 3.0));
}

/// `WRITE_DOCS=1` writes the page's table instead of comparing it.
#[cfg(target_os = "linux")]
#[test]
fn the_documented_table_is_what_the_registry_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = fs::read_to_string(&path).unwrap();
    let [begin, end] = MARKS;
    let (before, rest) = page.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    let made = table(Metrics::new().unwrap().described());
    if env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, [before, begin, &made, end, after].concat()).unwrap();
        return;
    }
    assert!(
        found == made,
        "docs/metrics.md is out of date; `WRITE_DOCS=1 cargo test --lib metrics` writes it again"
    );
}

#[test]
fn in_flight_ends_with_its_guard() {
    let metrics = Metrics::new().unwrap();
    let guard = metrics.in_flight();
    assert_eq!(metrics.in_flight.get(), 1);
    drop(guard);
    assert_eq!(metrics.in_flight.get(), 0);
}
