//! Int8 and float16 graphs: what they promise beside the float32 graph of the same weights.

mod check;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use patchlight_import::{Arch, ImportOptions, Source};
use patchlight_model::manifest::{HeadFusion, Manifest, Precision};
use patchlight_onnx::{
    graph::Storage,
    tensor::Tensor,
    vit::{self, BlockWeight, LinearKind, LinearLayer, PrecisionPlan, VitSpec, WeightId, Weights},
};

use tempfile::TempDir;

use crate::{
    graph::{assert_account_closes, imported_with},
    support::{GraphRunner, optimized},
};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn demo(precision: Precision) -> (TempDir, Manifest) {
    let source = Source::Checkpoint(repository("models/demo/checkpoint"));
    imported_with(ImportOptions {
        precision,
        ..ImportOptions::new(source, PathBuf::new())
    })
}

/// Images of blocks of color: a network sees more in them than in noise.
fn images(count: usize, side: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut blocks = Vec::new();
    for _ in 0..count * 3 * 14 * 14 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        blocks.push((state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0);
    }
    let at = |plane: usize, row: usize, column: usize| {
        blocks[(plane * 14 + row * 14 / side) * 14 + column * 14 / side]
    };
    let planes = 0..count * 3;
    planes
        .flat_map(|plane| (0..side * side).map(move |at| (plane, at / side, at % side)))
        .map(|(plane, row, column)| at(plane, row, column))
        .collect()
}

fn run(runner: &mut GraphRunner, pixels: &[f32], side: usize) -> Vec<Vec<f32>> {
    let count = pixels.len() / (3 * side * side);
    let outputs = runner.run("pixel_values", &[count, 3, side, side], pixels);
    outputs.into_iter().map(|(_, values)| values).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn best(logits: &[f32]) -> usize {
    let best = logits.iter().enumerate();
    best.max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

/// The promise of docs/importing.md: logits have the same bits at every batch size up to 16, on any
/// number of threads; maps agree within 1e-6.
#[test]
fn int8_answers_do_not_depend_on_the_batch() {
    let (folder, _) = demo(Precision::Int8);
    let pixels = images(16, 224);
    let each = 3 * 224 * 224;
    let mut together: Option<Vec<Vec<f32>>> = None;
    for threads in [1, 2] {
        let graph = folder.path().join("model.onnx");
        let mut runner = GraphRunner::from_file_with_threads(&graph, threads);
        let all = run(&mut runner, &pixels, 224);
        if let Some(before) = &together {
            assert_eq!(before[0], all[0], "logits with {threads} threads");
        }
        for size in [1, 2, 3, 5, 7, 11, 13, 16] {
            let first = 16 - size;
            let some = run(&mut runner, &pixels[first * each..], 224);
            let of_all = |output: usize| &all[output][first * all[output].len() / 16..];
            assert_eq!(some[0], of_all(0), "{size} images, {threads} threads");
            assert!(
                largest_difference(&some[2], of_all(2)) < 1e-6,
                "{size} images"
            );
        }
        together = Some(all);
    }
}

#[test]
fn int8_account_closes_against_its_own_logits() {
    let (folder, manifest) = demo(Precision::Int8);
    assert_eq!(manifest.graph.precision, Precision::Int8);
    let mut runner = GraphRunner::from_file(&folder.path().join("model.onnx"));
    let pixels = images(3, 224);
    for image in pixels.chunks(3 * 224 * 224) {
        let outputs = run(&mut runner, image, 224);
        assert_account_closes(&outputs[0], &outputs[3], &outputs[4], &outputs[5]);
    }
}

/// Float16 keeps 11 bits: logits of a trained ViT-Ti/16, which reach 4, agree within 0.05; maps
/// within 2e-3; the account within 0.02. Its outputs are float32 like those of every graph.
#[test]
fn float16_runs_on_a_cpu_and_agrees_with_float32() {
    let (wide, _) = demo(Precision::Fp32);
    let (narrow, _) = demo(Precision::Fp16);
    let pixels = images(4, 224);
    let mut runner = GraphRunner::from_file(&wide.path().join("model.onnx"));
    let expected = run(&mut runner, &pixels, 224);
    let mut runner = GraphRunner::from_file(&narrow.path().join("model.onnx"));
    let found = run(&mut runner, &pixels, 224);
    assert!(largest_difference(&found[0], &expected[0]) < 0.05);
    assert!(largest_difference(&found[2], &expected[2]) < 2e-3);
    let classes = expected[0].len() / 4;
    let mut pairs = found[0].chunks(classes).zip(expected[0].chunks(classes));
    assert!(pairs.all(|(a, b)| best(a) == best(b)));
    let tokens = 197;
    for row in found[2].chunks(tokens) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    for image in 0..4 {
        let of = |output: usize| &found[output][image * found[output].len() / 4..];
        let (logits, attribution, rest, ids) = (of(0), of(3), of(4), of(5));
        let total: f32 = attribution[..196].iter().sum();
        let residual = logits[ids[0] as usize] - total - rest[0];
        assert!(residual.abs() < 0.02, "{residual}");
    }
}

/// Every layout's peculiarities (two readout tokens, registers, a mean over patches, no biases,
/// 16-bit weights, LayerScale) pass through the same builder.
#[test]
fn whatever_is_imported_can_be_int8_or_float16() {
    for name in [
        "timm/deit_distilled",
        "timm/registers_layer_scale",
        "timm/fc_norm",
        "timm/mean_norm_first",
        "timm/no_qkv_bias_float16",
        "transformers/odd_head_size",
        "transformers/bfloat16",
    ] {
        let folder = repository(&format!("tests/goldens/{name}"));
        let source = Source::Checkpoint(folder);
        let options = ImportOptions::new(source, PathBuf::new());
        let mut answers = Vec::new();
        let mut size = 0;
        let lower = [Precision::Int8, Precision::Fp16, Precision::Bf16];
        for precision in [Precision::Fp32].into_iter().chain(lower) {
            let options = ImportOptions {
                precision,
                ..options.clone()
            };
            let (folder, manifest) = imported_with(options);
            let (height, width) = manifest.input_size().unwrap();
            size = height * width * 3;
            let pixels = &images(2, height.max(width))[..2 * size];
            let mut runner = GraphRunner::from_file(&folder.path().join("model.onnx"));
            let shape = [2, 3, height, width];
            answers.push(runner.run("pixel_values", &shape, pixels)[0].1.clone());
        }
        assert!(size > 0);
        let range = answers[0].iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        let int8 = largest_difference(&answers[1], &answers[0]);
        let fp16 = largest_difference(&answers[2], &answers[0]);
        assert!(
            int8 > 0.0 && int8 < 0.1 * range,
            "{name}: int8 {int8} of {range}"
        );
        assert!(fp16 < 0.02 * range, "{name}: float16 {fp16} of {range}");
        let bf16 = largest_difference(&answers[3], &answers[0]);
        assert!(
            bf16 > 0.0 && bf16 < 0.03 * range,
            "{name}: bfloat16 {bf16} of {range}"
        );
    }
}

/// Queries, keys and values share one rounding of their tokens, and softmax stays where the rollout
/// reads it.
#[test]
fn int8_graph_keeps_its_shape_in_the_runtime() {
    let options = ImportOptions {
        precision: Precision::Int8,
        ..ImportOptions::new(Source::RandomWeights(Arch::VitTi16), PathBuf::new())
    };
    let (folder, manifest) = imported_with(options);
    let graph = optimized(&folder.path().join("model.onnx")).graph.unwrap();
    let count = |operator: &str| {
        let nodes = graph.node.iter();
        nodes.filter(|node| node.op_type() == operator).count()
    };
    let layers = manifest.architecture.layers;
    assert_eq!(count("MatMulIntegerToFloat"), 6 * layers);
    // The last block rounds the class token's queries apart.
    assert_eq!(count("QuantizeLinear"), 4 * layers + 1);
    assert_eq!(count("Softmax"), layers);
    // Only the evidence's decoding of the class token is computed in every run.
    assert_eq!(count("Cast"), layers);
}

/// Two blocks of 8 channels whose tokens are all zero after the normalisations.
struct Zeros(VitSpec);

impl Weights for Zeros {
    type Error = std::io::Error;

    fn tensor(&mut self, weight: WeightId) -> Result<Tensor, Self::Error> {
        let shape = self.0.shape(weight);
        let value = match weight {
            WeightId::HeadBias => 0.25,
            WeightId::Block(_, BlockWeight::QueryKernel | BlockWeight::UpKernel) => 1.0,
            _ => 0.0,
        };
        Ok(Tensor::f32(
            shape.clone(),
            &vec![value; shape.iter().product()],
        ))
    }
}

#[test]
fn zero_tokens_and_zero_kernels_are_not_divided_by_zero() {
    let spec = VitSpec {
        layers: 2,
        heads: 2,
        hidden: 8,
        mlp: 8,
        image: [8, 12],
        patch: 4,
        classes: 3,
        ..Arch::VitTi16.spec(HeadFusion::Mean)
    };
    let plan = PrecisionPlan::uniform(Precision::Int8);
    let mut weights = Zeros(spec.clone());
    let model = vit::build(&spec, &plan, &mut weights, Storage::Inline).unwrap();
    let outputs = GraphRunner::from_model(&model).run("pixel_values", &[1, 3, 8, 12], &[0.5; 288]);
    assert_eq!(outputs[0].1, [0.25; 3]);
    let finite = |values: &Vec<f32>| values.iter().all(|value| value.is_finite());
    assert!(outputs.iter().all(|(_, values)| finite(values)));
}

#[test]
fn float32_layers_stay_in_float32() {
    let spec = VitSpec {
        layers: 2,
        heads: 2,
        hidden: 8,
        mlp: 8,
        image: [8, 12],
        patch: 4,
        classes: 3,
        ..Arch::VitTi16.spec(HeadFusion::Mean)
    };
    let mut plan = PrecisionPlan::uniform(Precision::Int8);
    plan.float32_layers.extend([
        LinearLayer {
            block: 0,
            part: LinearKind::Qkv,
        },
        LinearLayer {
            block: 1,
            part: LinearKind::Down,
        },
    ]);
    let mut weights = Zeros(spec.clone());
    let model = vit::build(&spec, &plan, &mut weights, Storage::Inline).unwrap();
    let nodes = &model.graph.as_ref().unwrap().node;
    let integer = |name: &str| {
        let mut products = nodes.iter();
        products
            .any(|node| node.name().starts_with(name) && node.op_type() == "MatMulIntegerToFloat")
    };
    assert!(!integer("block.0/attention/keys/flat") && integer("block.1/attention/keys/flat"));
    assert!(integer("block.0/mlp/down") && !integer("block.1/mlp/down"));
    assert_eq!(
        plan.float32_layers.first().unwrap().to_string(),
        "block.0/attention/qkv"
    );
}

/// Before the device is looked for, so that the reason is the same whatever this program was built
/// with.
#[test]
fn int8_on_a_gpu_is_refused_with_the_reason() {
    let (folder, _) = demo(Precision::Int8);
    let output = Command::new(env!("CARGO_BIN_EXE_patchlight"))
        .args(["classify", "--device", "cuda", "--model"])
        .arg(folder.path())
        .arg(repository("models/samples/dog.jpg"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("int8") && error.contains("--precision fp16"),
        "{error}"
    );
}
