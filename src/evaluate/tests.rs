//! The evaluator on an engine that looks at one patch alone, so that all metrics are known.

use std::path::{Path, PathBuf};

use patchlight_model::{Labels, Manifest};

use super::*;

const MANIFEST: &str = r#"
format = 1
architecture = { name = "ViT-Ti/16", layers = 2, heads = 1, hidden = 12, mlp = 24, patch = 16, parameters = 1000, gmac = 0.1 }
task = { kind = "single-label", classes = 2 }
graph = { file = "model.onnx", input = "x", logits = "y", rollout = "r", rollout_by_start = "s", precision = "fp32" }
tokens = { prefix = 1, grid = [2, 2] }
rollout = { head_fusion = "mean" }
files = {}
provenance = { source = "test", importer = "test" }

[preprocess]
filter = "bilinear"
resize = { mode = "squash", height = 32, width = 32 }
normalize = { scale = 0.00392156862745098, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
"#;

/// Says class 1 the more surely, the brighter the patch at the lower right is, and has a map that
/// is right (all weight there) in the rollout and wrong (all of it at the upper left) in the last
/// layer.
struct Looker;

impl Engine for Looker {
    fn device(&self) -> patchlight_engine::Device {
        patchlight_engine::Device::Cpu
    }

    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
        let output = |input: &Input<'_>| Output {
            logits: vec![0.0, 8.0 * input.tensor.normalized().unwrap()[17 * 32 + 17]],
            rollout: vec![0.2, 0.0, 0.0, 0.0, 0.8, 1.0, 0.0, 0.0, 0.0, 0.0],
            attribution: None,
            class_attention: Some(vec![0.0, 0.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0]),
        };
        Ok(inputs.iter().map(output).collect())
    }

    fn rebuild(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// White at the lower right, black elsewhere.
fn image(folder: &Path) -> PathBuf {
    let path = folder.join("image.png");
    let white = |x: u32, y: u32| image::Luma([if x >= 16 && y >= 16 { 255 } else { 0_u8 }]);
    image::GrayImage::from_fn(32, 32, white)
        .save(&path)
        .unwrap();
    path
}

fn measure(bounds: [f64; 4]) -> Result<ImageEvaluation, EvaluateError> {
    let folder = tempfile::tempdir().unwrap();
    let manifest: Manifest = toml::from_str(MANIFEST).unwrap();
    let model = ModelInfo {
        name: "test".to_owned(),
        directory: PathBuf::new(),
        input_size: manifest.input_size().unwrap(),
        manifest,
        labels: Labels::parse(b"no\nyes\n").unwrap(),
        digest: String::new(),
    };
    let pipeline = Pipeline::new(&model.manifest.preprocess).unwrap();
    let mut evaluator = Evaluator {
        model: &model,
        pipeline: &pipeline,
        engine: &mut Looker,
        protocol: Protocol {
            fill: Fill::Zero,
            steps: 4,
            seed: 1,
            batch: 3,
        },
    };
    evaluator.measure(&ListedImage {
        number: 0,
        path: image(folder.path()),
        class: Some(1),
        bounds,
        mask: None,
    })
}

#[test]
fn a_map_that_is_right_beats_chance_and_one_that_is_wrong_does_not() {
    let ImageEvaluation {
        right,
        maps,
        random,
    } = measure([16.0, 16.0, 32.0, 32.0]).unwrap();
    assert_eq!(right, Some(true));
    let [(MapMethod::Rollout, rollout), (MapMethod::LastLayer, last)] = &maps[..] else {
        panic!("{maps:?}");
    };
    assert_eq!(
        (rollout.on_object, rollout.in_box, rollout.mass),
        (1.0, 1.0, 1.0)
    );
    assert_eq!((last.on_object, last.in_box, last.mass), (0.0, 0.0, 0.0));
    assert_eq!((random.on_object, random.mass), (0.25, 0.25));

    // The score of white is that of a logit of 8, and of the fill that of 0: one half.
    let sure = 1.0 / (1.0 + (-8.0_f64).exp());
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}");
    let scores = rollout.curves.deletion.scores();
    close(scores[0], sure);
    scores[1..].iter().for_each(|&score| close(score, 0.5));
    close(rollout.curves.insertion.scores()[1], sure);
    // The wrong map's order begins at the upper left; the object may go last at the latest.
    assert!(last.curves.deletion.area() > rollout.curves.deletion.area());
    assert!(random.curves.deletion.area() > rollout.curves.deletion.area());
    assert!(random.curves.insertion.area() < rollout.curves.insertion.area());
}

#[test]
fn an_object_beyond_the_image_is_a_fault_of_the_listing() {
    let error = measure([100.0, 100.0, 120.0, 120.0]).unwrap_err();
    assert!(matches!(error, EvaluateError::Listing(_)), "{error}");
}
