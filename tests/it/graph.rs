//! Checkpoints become graphs that answer what the reference library answers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use patchlight_import::{self as import, Arch, ImportOptions, Source};
use patchlight_model::manifest::{HeadFusion, Manifest};

use tempfile::TempDir;

use crate::support::{GraphRunner, optimized};

const OUTPUTS: [&str; 7] = [
    "logits",
    "rollout",
    "rollout_by_start",
    "evidence",
    "evidence_rest",
    "evidence_class",
    "class_attention",
];

const FUSIONS: [HeadFusion; 3] = [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min];

/// What the `make.py` of a library wrote down.
#[derive(serde::Deserialize)]
struct Golden {
    pixel_values: Vec<Vec<f32>>,
    logits: Vec<Vec<f32>>,
    /// By fusion, image, start block, token.
    rollout_by_start: BTreeMap<String, Vec<Vec<Vec<f32>>>>,
    /// By image.
    #[serde(default)]
    #[serde(rename = "evidence")]
    attribution: Vec<GoldenAttribution>,
    /// By image, layer, head, token.
    #[serde(default)]
    class_attention: Vec<Vec<Vec<Vec<f32>>>>,
}

/// Of the best classes, then of the mean over all.
#[derive(serde::Deserialize)]
struct GoldenAttribution {
    patches: Vec<Vec<f32>>,
    rest: Vec<f32>,
    classes: Vec<usize>,
}

fn golden_folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/transformers")
        .join(name)
}

fn imported(source: Source, head_fusion: HeadFusion) -> (TempDir, Manifest) {
    imported_with(ImportOptions {
        head_fusion,
        ..ImportOptions::new(source, PathBuf::new())
    })
}

/// Imports into a directory of its own.
pub(crate) fn imported_with(options: ImportOptions) -> (TempDir, Manifest) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = ImportOptions {
        out: folder.path().to_owned(),
        ..options
    };
    let summary = import::run(&options, &mut |_| {}).unwrap();
    (folder, summary.manifest)
}

fn input_shape(manifest: &Manifest, images: usize) -> [usize; 4] {
    let [rows, columns] = manifest.tokens.grid;
    let patch = manifest.architecture.patch;
    [images, 3, rows * patch, columns * patch]
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "{what} at {at}: {found}, expected {expected}"
        );
    }
}

/// The patches' evidence and the rest meet the logits, those of the best classes and their mean.
#[track_caller]
pub(crate) fn assert_account_closes(
    logits: &[f32],
    patches: &[f32],
    rest: &[f32],
    classes: &[f32],
) {
    let mean = logits.iter().sum::<f32>() / logits.len() as f32;
    let targets = classes.iter().map(|&class| logits[class as usize]);
    let each = patches.len() / rest.len();
    for (at, target) in targets.chain([mean]).enumerate() {
        let residual = target - patches[at * each..][..each].iter().sum::<f32>() - rest[at];
        assert!(residual.abs() < 1e-3, "row {at}: {residual} of {target}");
    }
}

fn agrees_with_transformers(name: &str) {
    let folder = golden_folder(name);
    let options = ImportOptions::new(Source::Checkpoint(folder.clone()), PathBuf::new());
    agrees(&options, &folder.join("expected.json"));
}

/// Logits within 1e-4, evidence too, whose sums meet the logits within 1e-3; the rollout from every block within 1e-5, in one batch and alone, for every
/// fusion.
pub(crate) fn agrees(options: &ImportOptions, expected: &Path) {
    let name = expected.display();
    let golden: Golden = serde_json::from_str(&fs::read_to_string(expected).unwrap()).unwrap();
    let images = golden.pixel_values.len();
    for fusion in FUSIONS {
        let fusion_name = format!("{fusion:?}").to_lowercase();
        let (folder, manifest) = imported_with(ImportOptions {
            head_fusion: fusion,
            ..options.clone()
        });
        let mut runner = GraphRunner::from_file(&folder.path().join("model.onnx"));
        let outputs = runner.outputs();
        assert!(outputs.len() >= 3 && OUTPUTS.iter().zip(&outputs).all(|(a, b)| a == b));

        let (layers, tokens) = (manifest.architecture.layers, manifest.tokens.total());
        let labels = manifest.task.classes.min(5);
        let (heads, patches) = (manifest.architecture.heads, manifest.tokens.patches());
        let together = runner.run(
            "pixel_values",
            &input_shape(&manifest, images),
            &golden.pixel_values.concat(),
        );
        let shapes = [
            vec![images, manifest.task.classes],
            vec![images, patches],
            vec![images, layers, tokens],
            vec![images, labels + 1, patches],
            vec![images, labels + 1],
            vec![images, labels],
            vec![images, layers, heads, tokens],
        ];
        for ((shape, _), expected) in together.iter().zip(shapes) {
            assert_eq!(
                *shape,
                expected.iter().map(|&n| n as i64).collect::<Vec<_>>()
            );
        }
        for image in 0..images {
            let what = |output: &str| format!("{name}, {fusion_name}, image {image}, {output}");
            let of_batch = |output: usize| {
                let values = &together[output].1;
                let each = values.len() / images;
                &values[image * each..][..each]
            };
            let by_start = golden.rollout_by_start[&fusion_name][image].concat();
            let patches = &by_start[manifest.tokens.prefix..tokens];
            assert_close(of_batch(0), &golden.logits[image], 1e-4, &what("logits"));
            assert_close(of_batch(1), patches, 1e-5, &what("rollout"));
            assert_close(of_batch(2), &by_start, 1e-5, &what("rollout_by_start"));

            if outputs.len() > 5 {
                assert_account_closes(of_batch(0), of_batch(3), of_batch(4), of_batch(5));
            }
            if let Some(attribution) = golden.attribution.get(image) {
                let expected = attribution.patches.concat();
                assert_close(of_batch(3), &expected, 1e-4, &what("evidence"));
                assert_close(of_batch(4), &attribution.rest, 1e-4, &what("evidence_rest"));
                let classes: Vec<f32> = attribution.classes.iter().map(|&id| id as f32).collect();
                assert_eq!(of_batch(5), classes, "{}", what("evidence_class"));
            }
            if let Some(rows) = golden.class_attention.get(image) {
                let rows = rows.concat().concat();
                assert_close(of_batch(6), &rows, 1e-5, &what("class_attention"));
            }

            let alone = runner.run(
                "pixel_values",
                &input_shape(&manifest, 1),
                &golden.pixel_values[image],
            );
            for (output, (_, values)) in alone.iter().enumerate() {
                assert_close(values, of_batch(output), 1e-5, &what("alone or in a batch"));
            }
        }
    }
}

#[test]
fn plain_vit_agrees_with_transformers() {
    agrees_with_transformers("plain");
}

#[test]
fn wide_grid_agrees_with_transformers() {
    agrees_with_transformers("wide_grid");
}

#[test]
fn vit_without_qkv_bias_and_with_tanh_gelu_agrees_with_transformers() {
    agrees_with_transformers("no_qkv_bias_tanh");
}

#[test]
fn single_block_whose_attention_scale_is_no_power_of_two_agrees_with_transformers() {
    agrees_with_transformers("odd_head_size");
}

#[test]
fn one_class_and_relu_agree_with_transformers() {
    agrees_with_transformers("relu_one_class");
}

#[test]
fn float16_checkpoint_agrees_with_transformers() {
    agrees_with_transformers("float16");
}

#[test]
fn bfloat16_checkpoint_agrees_with_transformers() {
    agrees_with_transformers("bfloat16");
}

/// Weights stored in 16 bits must not be widened in every run, and the softmax must stay where the
/// rollout reads it.
#[test]
fn runtime_widens_weights_on_loading_and_keeps_every_softmax() {
    let (folder, manifest) = imported(
        Source::Checkpoint(golden_folder("float16")),
        HeadFusion::Mean,
    );
    let graph = optimized(&folder.path().join("model.onnx")).graph.unwrap();
    let count = |operator: &str| {
        graph
            .node
            .iter()
            .filter(|n| n.op_type() == operator)
            .count()
    };
    assert_eq!(count("Cast"), 0);
    let own = manifest.architecture.layers + 3;
    assert_eq!(
        count("Mul"),
        own,
        "those of rollout and evidence, none on weights"
    );
    assert_eq!(count("Softmax"), manifest.architecture.layers);
    // What makes each block wait for its mean and for what the evidence reads of it; an optimiser
    // that sees through it would cost memory.
    assert_eq!(count("Shape"), 3 * (manifest.architecture.layers - 1));
}

#[test]
fn large_16_with_random_weights_runs() {
    let (folder, manifest) = imported(Source::RandomWeights(Arch::VitL16), HeadFusion::Mean);
    assert_eq!(manifest.architecture.parameters, 304_326_632);
    assert!(manifest.files.contains_key("model.onnx.data"));
    assert!(
        fs::metadata(folder.path().join("model.onnx"))
            .unwrap()
            .len()
            < 1 << 20
    );

    let mut runner = GraphRunner::from_file(&folder.path().join("model.onnx"));
    let pixels: Vec<f32> = (0..3 * 224 * 224)
        .map(|i| (i % 255) as f32 / 127.5 - 1.0)
        .collect();
    let outputs = runner.run("pixel_values", &[1, 3, 224, 224], &pixels);
    assert!(
        outputs
            .iter()
            .flat_map(|(_, values)| values)
            .all(|value| value.is_finite())
    );
    for row in outputs[2].1.chunks(197) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(outputs[1].1, outputs[2].1[1..197]);
    assert_account_closes(&outputs[0].1, &outputs[3].1, &outputs[4].1, &outputs[5].1);
}
