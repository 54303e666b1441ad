//! The whole program over a real socket, with the demo model.

mod requests;

use std::fs;

use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    client::{self, Answer, get, get_with, post},
    process::{Server, models},
};

/// A line of `models/samples/samples.json`.
#[derive(Debug, Deserialize)]
struct Sample {
    file: String,
    label: String,
    class_id: u64,
    #[serde(rename = "box")]
    object: [f64; 4],
    width: u64,
    height: u64,
}

impl Sample {
    fn all() -> Vec<Self> {
        let text = fs::read_to_string(models("samples/samples.json")).expect("the samples' list");
        serde_json::from_str(&text).expect("a list of samples")
    }

    fn bytes(&self) -> Vec<u8> {
        sample(&self.file)
    }
}

pub(crate) fn sample(file: &str) -> Vec<u8> {
    fs::read(models("samples").join(file)).expect("a sample")
}

/// The map's address in the answer.
pub(crate) fn map_of(answer: &Answer) -> String {
    answer.json()["attention"]["url"]
        .as_str()
        .expect("a map")
        .to_owned()
}

/// The centre of the strongest patch, in pixels of the upright image.
fn strongest_patch(map: &Value) -> (f64, f64) {
    let number = |value: &Value| value.as_f64().expect("a number");
    let values: Vec<f64> = map["values"]
        .as_array()
        .expect("values")
        .iter()
        .map(number)
        .collect();
    let strongest = (0..values.len())
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .expect("a patch");
    let (rows, columns) = (number(&map["grid"][0]), number(&map["grid"][1]));
    let (row, column) = (
        (strongest / columns as usize) as f64,
        (strongest % columns as usize) as f64,
    );
    let region = &map["region"];
    let x = number(&region["x"]) + (column + 0.5) / columns * number(&region["width"]);
    let y = number(&region["y"]) + (row + 0.5) / rows * number(&region["height"]);
    (x, y)
}

#[tokio::test]
async fn every_sample_gets_its_name_and_its_map_lies_on_the_object() {
    let server = Server::demo();
    for sample in Sample::all() {
        let answer = post(&server.address, "/classify", sample.bytes()).await;
        assert_eq!(answer.status, 200, "{}: {}", sample.file, answer.text());
        let body = answer.json();
        assert_eq!(
            body["predictions"][0]["label"], sample.label,
            "{}: {body}",
            sample.file
        );
        assert_eq!(body["predictions"][0]["class_id"], sample.class_id);
        assert_eq!(body["model"], "demo");
        // Upright, also where EXIF says that the stored image is turned.
        assert_eq!(body["image"]["width"], sample.width, "{}", sample.file);
        assert_eq!(body["image"]["height"], sample.height, "{}", sample.file);

        let map = get(&server.address, &format!("{}?format=json", map_of(&answer)))
            .await
            .json();
        let (x, y) = strongest_patch(&map);
        let [left, top, right, bottom] = sample.object;
        assert!(
            (left..=right).contains(&x) && (top..=bottom).contains(&y),
            "{}: the strongest patch lies at {x:.0}, {y:.0}, outside {:?}",
            sample.file,
            sample.object
        );
    }
}

#[tokio::test]
async fn parallel_clients_get_the_answers_they_would_get_alone_and_share_batches() {
    // Thirty-two at once take an unoptimised build on two busy cores longer than the usual ten
    // seconds.
    let flags = ["--request-timeout", "2m", "--drain-delay", "200ms"];
    let server = Server::start(&flags);
    let samples = Sample::all();
    let mut alone = Vec::new();
    for sample in &samples {
        let answer = post(&server.address, "/classify?top_k=3", sample.bytes());
        alone.push(answer.await.json());
    }
    parallel_clients(&server, &samples, &alone).await;
    assert_batches_were_shared(&server, 32 + samples.len()).await;

    // Two sessions take from one queue, and the answer does not tell which one it was.
    let two = ["--threads", "2", "--sessions", "2"];
    let server = Server::start(&[&flags[..], &two].concat());
    parallel_clients(&server, &samples, &alone).await;
    assert_batches_were_shared(&server, 32).await;
    #[cfg(target_os = "linux")]
    assert_eq!(server.threads("batch"), 2);
}

/// Thirty-two at once, of whom each has to get what it would get `alone`.
async fn parallel_clients(server: &Server, samples: &[Sample], alone: &[Value]) {
    let requests = (0..32).map(|client| {
        let (address, sample) = (
            server.address.clone(),
            samples[client % samples.len()].bytes(),
        );
        tokio::spawn(async move { post(&address, "/classify?top_k=3", sample).await })
    });
    let requests: Vec<_> = requests.collect();
    for (client, request) in requests.into_iter().enumerate() {
        let answer = request.await.expect("no panic");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let (body, alone) = (answer.json(), &alone[client % samples.len()]);
        for rank in 0..3 {
            let (together, single) = (&body["predictions"][rank], &alone["predictions"][rank]);
            assert_eq!(together["class_id"], single["class_id"]);
            let difference =
                together["score"].as_f64().unwrap() - single["score"].as_f64().unwrap();
            assert!(
                difference.abs() < 1e-4,
                "client {client}, rank {rank}: {difference}"
            );
        }
    }
}

async fn assert_batches_were_shared(server: &Server, images: usize) {
    let metrics = get(&server.address, "/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics.text().lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(' ').nth(1))
            .and_then(|v| v.parse().ok())
            .expect(name)
    };
    assert_eq!(value("patchlight_batch_size_sum"), images as f64);
    assert!(
        value("patchlight_batch_size_count") < images as f64,
        "no batch held more than one of {images} images"
    );
}

#[tokio::test]
async fn a_map_comes_as_image_json_and_array_and_they_agree() {
    let server = Server::demo();
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    let url = map_of(&answer);

    let json = get(&server.address, &format!("{url}?format=json"))
        .await
        .json();
    let values: Vec<f64> = json["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    assert_eq!(json["method"], "rollout");
    assert_eq!(json["head_fusion"], "mean");
    assert_eq!(json["grid"], serde_json::json!([14, 14]));
    let sum = values.iter().sum::<f64>() + json["prefix_mass"].as_f64().unwrap();
    assert!(
        (sum - 1.0).abs() < 1e-4,
        "values and prefix_mass add up to {sum}"
    );

    let npy = get_with(&server.address, &url, &[("accept", "application/x-npy")]).await;
    assert_eq!(npy.header("content-type"), "application/x-npy");
    assert!(npy.body.starts_with(b"\x93NUMPY\x01\x00"));
    let data = &npy.body[npy.body.len() - 4 * 196..];
    let floats = data
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    for (float, value) in floats.zip(&values) {
        assert_eq!(float, *value as f32);
    }

    let overlay = get(&server.address, &url).await;
    assert_eq!(overlay.header("content-type"), "image/png");
    assert_eq!(overlay.header("x-patchlight-view"), "overlay");
    let image = image::load_from_memory(&overlay.body).expect("a PNG");
    assert_eq!((image.width(), image.height()), (640, 427));
    for query in [
        "view=heatmap",
        "view=contour",
        "colormap=magma",
        "alpha=0.2",
        "smooth=none",
        "start_layer=6",
    ] {
        let variant = get(&server.address, &format!("{url}?{query}")).await;
        assert_eq!(variant.status, 200, "{query}: {:?}", variant.body);
        assert_ne!(variant.body, overlay.body, "{query} changes nothing");
    }
}

#[tokio::test]
async fn a_map_is_cached_by_its_client_and_forgotten_on_demand() {
    let server = Server::demo();
    let url = map_of(&post(&server.address, "/classify", sample("dog.jpg")).await);
    let first = get(&server.address, &url).await;
    let etag = first.header("etag").to_owned();
    assert!(first.header("cache-control").starts_with("private"));
    assert_eq!(first.header("vary"), "Accept");
    let again = get_with(&server.address, &url, &[("if-none-match", &etag)]).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let other = get(&server.address, &format!("{url}?view=heatmap")).await;
    assert_ne!(other.header("etag"), etag);

    let head = client::send(&server.address, Method::HEAD, &url, &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let forgotten = client::send(&server.address, Method::DELETE, &url, &[], "").await;
    assert_eq!(forgotten.status, 204);
    get(&server.address, &url)
        .await
        .is_problem(404, "map_not_found");
    get(&server.address, "/attention/nonsense")
        .await
        .is_problem(404, "map_not_found");
}

#[tokio::test]
async fn without_a_kept_image_the_overlay_is_a_heat_map_and_says_so() {
    let server = Server::start(&["--keep-pictures", "false"]);
    let url = map_of(&post(&server.address, "/classify", sample("dog.jpg")).await);
    let map = get(&server.address, &url).await;
    assert_eq!(map.status, 200);
    assert_eq!(map.header("x-patchlight-view"), "heatmap");
}
