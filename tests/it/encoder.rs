//! Sessions whose encoder is computed by kernels of our own answer what the runtime's operators
//! answer.

use std::path::{Path, PathBuf};

use patchlight_engine::{
    Device, Engine, Input, Kernels, OrtEngine, Output, SessionOptions, TensorRtOptions,
};
use patchlight_import::{ImportOptions, Source};
use patchlight_model::manifest::{HeadFusion, Manifest, Precision};
use tempfile::TempDir;

use crate::{
    graph::{assert_account_closes, imported_with},
    support::runtime,
};

const CHECKPOINTS: [&str; 9] = [
    "bfloat16",
    "deit",
    "deit_teacher",
    "float16",
    "no_qkv_bias_tanh",
    "odd_head_size",
    "plain",
    "relu_one_class",
    "wide_grid",
];

struct Engines {
    _folder: TempDir,
    manifest: Manifest,
    ours: OrtEngine,
    stock: OrtEngine,
}

impl Engines {
    /// None where the processor lacks the instructions.
    fn load(checkpoint: &Path, precision: Precision, head_fusion: HeadFusion) -> Option<Self> {
        let source = Source::Checkpoint(checkpoint.to_owned());
        let (folder, manifest) = imported_with(ImportOptions {
            precision,
            head_fusion,
            ..ImportOptions::new(source, PathBuf::new())
        });
        let load = |kernels| {
            let options = SessionOptions {
                device: Device::Cpu,
                threads: 2,
                sessions: 1,
                replay: false,
                tensorrt: TensorRtOptions::default(),
                spin: false,
                kernels,
                graph: folder.path().join("model.onnx"),
            };
            OrtEngine::load(runtime(), &manifest, &options).unwrap()
        };
        let [ours, stock] = [Kernels::Auto, Kernels::Stock].map(load);
        assert_eq!(stock.instruction_set(), None);
        let Some(set) = ours.instruction_set() else {
            eprintln!("SKIPPED: this processor lacks the instructions of the kernels");
            return None;
        };
        eprintln!("{}, {precision}: {set}", checkpoint.display());
        Some(Self {
            _folder: folder,
            manifest,
            ours,
            stock,
        })
    }

    fn golden(name: &str, precision: Precision, head_fusion: HeadFusion) -> Option<Self> {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/transformers");
        Self::load(&goldens.join(name), precision, head_fusion)
    }

    /// Images of blocks of color: a network sees more in them than in noise.
    fn images(&self, count: usize) -> Vec<Vec<f32>> {
        let (height, width) = self.manifest.input_size().unwrap();
        let value = |image: usize, at: usize| {
            let (plane, row, column) = (at / (height * width), at / width % height, at % width);
            let block = (plane * 7 + row * 5 / height) * 7 + column * 5 / width;
            ((block * 7919 + image * 104_729) % 512) as f32 / 256.0 - 1.0
        };
        (0..count)
            .map(|image| (0..3 * height * width).map(|at| value(image, at)).collect())
            .collect()
    }
}

fn run(engine: &mut OrtEngine, images: &[Vec<f32>]) -> Vec<Output> {
    let inputs: Vec<Input<'_>> = images
        .iter()
        .map(|values| Input::in_full(&**values))
        .collect();
    engine.run(&inputs).unwrap()
}

fn range(values: &[f32]) -> f32 {
    let largest = values.iter().copied().fold(f32::MIN, f32::max);
    largest - values.iter().copied().fold(f32::MAX, f32::min)
}

#[track_caller]
fn assert_within(found: &[f32], expected: &[f32], allowed: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(
            difference <= allowed,
            "{what}: {found}, expected {expected} within {allowed}"
        );
    }
}

#[track_caller]
fn assert_close(found: &Output, expected: &Output, logits: f32, share: f32, what: &str) {
    let of_logits = range(&expected.logits).max(1e-2) * logits;
    assert_within(
        &found.logits,
        &expected.logits,
        of_logits,
        &format!("{what}, logits"),
    );
    assert_within(
        &found.rollout,
        &expected.rollout,
        share,
        &format!("{what}, rollout"),
    );
    assert_eq!(
        found.class_attention.is_some(),
        expected.class_attention.is_some()
    );
    if let (Some(found), Some(expected)) = (&found.class_attention, &expected.class_attention) {
        assert_within(found, expected, share, &format!("{what}, class attention"));
    }
    assert_eq!(
        found.attribution.is_some(),
        expected.attribution.is_some(),
        "{what}"
    );
    if let (Some(of), Some(expected)) = (&found.attribution, &expected.attribution) {
        let classes: Vec<f32> = of.classes.iter().map(|&class| class as f32).collect();
        assert_account_closes(&found.logits, &of.patches, &of.rest, &classes);
        assert_eq!(of.classes, expected.classes, "{what}");
        let allowed = range(&expected.patches).max(1e-2) * logits;
        assert_within(
            &of.patches,
            &expected.patches,
            allowed,
            &format!("{what}, evidence"),
        );
    }
}

#[test]
fn float32_answers_are_those_of_the_runtime_s_operators() {
    for name in CHECKPOINTS {
        for fusion in [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min] {
            let Some(mut engines) = Engines::golden(name, Precision::Fp32, fusion) else {
                return;
            };
            let images = engines.images(3);
            let found = run(&mut engines.ours, &images);
            let expected = run(&mut engines.stock, &images);
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(found, expected, 1e-4, 1e-5, &format!("{name}, {fusion:?}"));
            }
        }
    }
}

/// A value between two integers may be rounded the other way: the runtime divides where the kernels
/// multiply, and adds up floats in another order. So answers differ by a part of what eight bits
/// change in any case.
#[test]
fn int8_answers_are_as_near_to_those_of_the_runtime_s_operators_as_rounding_allows() {
    for name in CHECKPOINTS {
        let Some(mut engines) = Engines::golden(name, Precision::Int8, HeadFusion::Mean) else {
            return;
        };
        let images = engines.images(3);
        let found = run(&mut engines.ours, &images);
        let expected = run(&mut engines.stock, &images);
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, 3e-2, 1e-2, name);
        }
    }
}

/// A value between two of bfloat16 may be rounded the other way, since sums have another order; and
/// attention may be in bfloat16, too, where the runtime's is in float32.
#[test]
fn bf16_answers_are_as_near_to_those_of_the_runtime_s_operators_as_rounding_allows() {
    // A single logit has no range to compare with.
    for name in CHECKPOINTS
        .into_iter()
        .filter(|name| *name != "relu_one_class")
    {
        let Some(mut engines) = Engines::golden(name, Precision::Bf16, HeadFusion::Mean) else {
            return;
        };
        let images = engines.images(3);
        let found = run(&mut engines.ours, &images);
        let expected = run(&mut engines.stock, &images);
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, 5e-2, 3e-2, name);
        }
    }
}

#[test]
fn answers_have_the_same_bits_alone_and_in_any_batch() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/checkpoint");
    for precision in [Precision::Int8, Precision::Fp32, Precision::Bf16] {
        let Some(mut engines) = Engines::load(&demo, precision, HeadFusion::Mean) else {
            return;
        };
        let images = engines.images(5);
        let together = run(&mut engines.ours, &images);
        for (image, expected) in images.chunks(1).zip(together) {
            assert_eq!(run(&mut engines.ours, image)[0].rollout, expected.rollout);
            if precision == Precision::Int8 {
                assert_eq!(run(&mut engines.ours, image)[0].logits, expected.logits);
            }
        }
    }
}

#[test]
fn a_further_session_answers_with_the_same_bits() {
    let Some(mut engines) = Engines::golden("plain", Precision::Int8, HeadFusion::Mean) else {
        return;
    };
    let images = engines.images(2);
    let mut another = engines.ours.another().unwrap();
    assert_eq!(another.instruction_set(), engines.ours.instruction_set());
    let expected = run(&mut engines.ours, &images);
    assert_eq!(run(&mut another, &images), expected);
    another.rebuild().unwrap();
    assert_eq!(run(&mut another, &images), expected);
}

/// Whoever wants no maps gets none, and the same logits.
#[test]
fn without_maps_the_logits_are_the_same() {
    let Some(mut engines) = Engines::golden("plain", Precision::Int8, HeadFusion::Mean) else {
        return;
    };
    let images = engines.images(1);
    let input = Input {
        maps: false,
        class_attention: false,
        ..Input::in_full(&*images[0])
    };
    let plain = engines.ours.run(&[input]).unwrap().remove(0);
    let full = run(&mut engines.ours, &images).remove(0);
    assert_eq!(plain.logits, full.logits);
    assert!(plain.rollout.is_empty() && plain.attribution.is_none());
}

/// A number that is none in the input is none in the answer: it is not rounded to an integer.
#[test]
fn a_number_that_is_none_stays_none() {
    let Some(mut engines) = Engines::golden("plain", Precision::Int8, HeadFusion::Mean) else {
        return;
    };
    let mut images = engines.images(2);
    images[0][5] = f32::NAN;
    let found = run(&mut engines.ours, &images);
    assert!(found[0].logits.iter().all(|logit| logit.is_nan()));
    assert!(found[1].logits.iter().all(|logit| logit.is_finite()));
}
