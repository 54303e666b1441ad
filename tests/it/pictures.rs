//! From a picture's file to scores and map, as each library's own pipeline has them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use patchlight::import::{self, ImportOptions, PreprocessSource, Source};

use crate::{
    client::{get, post},
    process::Server,
    service::map_of,
};

/// What scores may be off by, end to end.
const SCORES: f64 = 2e-3;

/// What any patch of the map may be off by.
const MAP: f64 = 2e-4;

/// What a library answers for one picture: a score for each class, the rollout for each patch.
#[derive(serde::Deserialize)]
struct Expected {
    scores: Vec<f64>,
    rollout: Vec<f64>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden(path: &str) -> PathBuf {
    root().join("tests/goldens/pictures").join(path)
}

/// Imports one of the models to `out/NAME`.
fn import(name: &str, out: &Path) -> PathBuf {
    let (source, preprocess) = match name {
        "torchvision" => (
            "torchvision/weights.safetensors",
            Some("torchvision:vit_b_32"),
        ),
        other => (other, None),
    };
    let out = out.join(name);
    let preset = preprocess.and_then(|text| text.parse::<PreprocessSource>().ok());
    let options = ImportOptions {
        heads: preprocess.map(|_| 2),
        preprocess: preset,
        ..ImportOptions::new(Source::Checkpoint(golden(source)), out.clone())
    };
    import::run(&options, &mut |_| {}).unwrap();
    out
}

#[tokio::test]
async fn pictures_of_every_kind_are_answered_as_by_every_library() {
    let text = fs::read_to_string(golden("expected.json")).unwrap();
    let libraries: BTreeMap<String, BTreeMap<String, Expected>> =
        serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut failures = Vec::new();
    for (library, pictures) in &libraries {
        let name = library.split('/').next().unwrap();
        let model = import(name, folder.path());
        let server = Server::start(&[
            "--drain-delay",
            "0s",
            "--jpeg-scaling",
            "off",
            "--model",
            model.to_str().unwrap(),
        ]);
        for (path, expected) in pictures {
            let picture = fs::read(root().join(path)).unwrap();
            let classes = expected.scores.len();
            let answer = post(
                &server.address,
                &format!("/classify?top_k={classes}"),
                picture,
            )
            .await;
            assert_eq!(answer.status, 200, "{library}, {path}: {}", answer.text());
            let body = answer.json();
            assert_eq!(body["scores"] == "sigmoid", name == "deit", "{body}");
            let mut scores = vec![f64::NAN; classes];
            for prediction in body["predictions"].as_array().unwrap() {
                let class = prediction["class_id"].as_u64().unwrap() as usize;
                scores[class] = prediction["score"].as_f64().unwrap();
            }
            let map = get(&server.address, &format!("{}?format=json", map_of(&answer))).await;
            let values = map.json()["values"].as_array().unwrap().clone();
            let values: Vec<f64> = values.iter().map(|value| value.as_f64().unwrap()).collect();
            let (scores_off, map_off) = (
                worst(&scores, &expected.scores),
                worst(&values, &expected.rollout),
            );
            let same_best = best_alike(&scores, &expected.scores);
            if scores_off > SCORES || map_off > MAP || !same_best {
                failures.push(format!(
                    "{library}, {path}: scores by {scores_off:.6}, map by {map_off:.6}, \
                     best {:?} instead of {:?}",
                    best(&scores),
                    best(&expected.scores)
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The largest difference; infinite where lengths differ.
fn worst(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

/// Whether the five best classes are the library's, but for those whose scores are closer together
/// than scores may be off.
fn best_alike(found: &[f64], expected: &[f64]) -> bool {
    let pairs = best(found).into_iter().zip(best(expected));
    let mut differences = pairs.map(|(a, b)| (expected[a] - expected[b]).abs());
    differences.all(|difference| difference <= SCORES)
}

/// The five best classes.
fn best(scores: &[f64]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..scores.len()).collect();
    classes.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    classes.truncate(5);
    classes
}

/// A webcam's frame without Huffman tables was classified, and every map of it was 500: the copy that was
/// kept lacked the marker that stands for them.
#[tokio::test]
async fn whatever_was_classified_can_be_drawn() {
    let server = Server::start(&[]);
    let odd = [
        "avi1-without-tables",
        "420-three-scans",
        "factor-3",
        "cmyk-progressive",
        "420",
    ];
    for name in odd {
        let file = root().join(format!("tests/goldens/jpeg/{name}.jpg"));
        let answer = post(&server.address, "/classify", fs::read(file).unwrap()).await;
        assert_eq!(answer.status, 200, "{name}");
        let url = map_of(&answer);
        for view in ["overlay", "heatmap"] {
            let map = get(&server.address, &format!("{url}?view={view}")).await;
            assert_eq!(map.status, 200, "{name}: {}", map.text());
        }
    }
}
