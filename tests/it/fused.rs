//! The graph with fused operators, in their standard bodies, answers what the portable graph
//! answers.

use std::{fs, path::PathBuf};

use ort::value::TensorRef;
use patchlight_imaging::preprocess::Normalize;
use patchlight_import::{ImportOptions, Source};
use patchlight_model::manifest::{HeadFusion, Manifest, Precision};
use patchlight_onnx::{
    proto::ModelProto,
    vit::fused::{FusedShape, MAPS, PIXELS, PixelNormalization, fuse},
};
use prost::Message;
use tempfile::TempDir;

use crate::{graph::imported_with, support::GraphRunner};

pub(crate) fn half_precision(
    name: &str,
    head_fusion: HeadFusion,
) -> (TempDir, ModelProto, Manifest) {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/transformers");
    let (folder, manifest) = imported_with(ImportOptions {
        precision: Precision::Fp16,
        head_fusion,
        ..ImportOptions::new(Source::Checkpoint(golden.join(name)), PathBuf::new())
    });
    let graph = fs::read(folder.path().join("model.onnx")).unwrap();
    let model = ModelProto::decode(graph.as_slice()).unwrap();
    (folder, model, manifest)
}

pub(crate) fn shape(manifest: &Manifest) -> FusedShape {
    FusedShape {
        layers: manifest.architecture.layers,
        heads: manifest.architecture.heads,
        hidden: manifest.architecture.hidden,
        tokens: manifest.tokens.total(),
        image: manifest.input_size().into(),
        head_fusion: manifest.rollout.head_fusion,
    }
}

/// As the manifest has it.
pub(crate) fn normalization(normalize: &Normalize) -> PixelNormalization {
    PixelNormalization {
        scale: normalize.scale,
        mean: normalize.mean,
        std: normalize.std,
    }
}

/// Values that differ from image to image and are the same in half precision, whether the runtime
/// narrows them or not.
fn pixels(count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| ((at * 7919 % 512) as f32 / 256.0) - 1.0)
        .collect()
}

#[test]
fn bodies_of_fused_operators_agree_with_the_portable_graph() {
    for name in [
        "plain",
        "wide_grid",
        "no_qkv_bias_tanh",
        "deit",
        "deit_teacher",
    ] {
        let (_folder, portable, manifest) = half_precision(name, HeadFusion::Mean);
        let normalize = &manifest.preprocess.normalize;
        let fused = fuse(
            portable.clone(),
            &shape(&manifest),
            &normalization(normalize),
        );
        let fused = fused.unwrap().model;
        let operators = |model: &ModelProto| model.graph.as_ref().unwrap().node.len();
        assert!(operators(&fused) < operators(&portable), "{name}");

        let [rows, columns] = manifest.tokens.grid;
        let patch = manifest.architecture.patch;
        let input = [3, 3, rows * patch, columns * patch];
        let values = pixels(input.iter().product());
        let mut portable = GraphRunner::from_model(&portable);
        let mut fused = GraphRunner::from_model(&fused);
        let outputs = portable.outputs();
        assert_eq!(fused.outputs(), outputs, "{name}");
        let expected = portable.run("pixel_values", &input, &values);
        let none = TensorRef::from_array_view(([0, input[2], input[3], 3], &[0_u8; 0][..]));
        let found = fused.run_with(ort::inputs![
            "pixel_values" => TensorRef::from_array_view((input, &*values)).unwrap(),
            PIXELS => none.unwrap(),
            MAPS => TensorRef::from_array_view(([1_usize], &[1_i64][..])).unwrap(),
        ]);
        for ((output, expected), found) in outputs.iter().zip(&expected).zip(&found) {
            assert_eq!(found.0, expected.0, "{name}, {output}");
            let largest = expected.1.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            for (found, expected) in found.1.iter().zip(&expected.1) {
                let difference = (found - expected).abs();
                // Half precision has eleven bits; sums are rounded in other places.
                assert!(
                    difference <= 4e-3 * largest,
                    "{name}, {output}: {found}, expected {expected} of {largest}"
                );
            }
        }
        if outputs.len() > 5 {
            let of_image = |output: usize, image: usize| {
                let values = &found[output].1;
                let each = values.len() / 3;
                &values[image * each..][..each]
            };
            for image in 0..3 {
                let [logits, patches, rest, classes] =
                    [0, 3, 4, 5].map(|output| of_image(output, image));
                assert_account_closes_in_half(logits, patches, rest, classes);
            }
        }
    }
}

/// Sums on the residual stream are rounded to half precision.
fn assert_account_closes_in_half(logits: &[f32], patches: &[f32], rest: &[f32], classes: &[f32]) {
    let mean = logits.iter().sum::<f32>() / logits.len() as f32;
    let targets = classes.iter().map(|&class| logits[class as usize]);
    let each = patches.len() / rest.len();
    for (at, target) in targets.chain([mean]).enumerate() {
        let residual = target - patches[at * each..][..each].iter().sum::<f32>() - rest[at];
        assert!(residual.abs() < 1e-2, "row {at}: {residual} of {target}");
    }
}

#[test]
fn what_fused_operators_lack_is_said() {
    let (_folder, graph, manifest) = half_precision("relu_one_class", HeadFusion::Mean);
    let refusal = fuse(
        graph,
        &shape(&manifest),
        &normalization(&manifest.preprocess.normalize),
    )
    .unwrap_err();
    assert_eq!(refusal, "its activation is Relu");
    let (_folder, graph, manifest) = half_precision("plain", HeadFusion::Max);
    let refusal = fuse(
        graph,
        &shape(&manifest),
        &normalization(&manifest.preprocess.normalize),
    )
    .unwrap_err();
    assert!(refusal.contains("mean over the heads"), "{refusal}");
}
