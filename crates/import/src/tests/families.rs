//! Checkpoints of every family answer what the library that wrote them answers: logits, rollouts of
//! every head fusion, and evidence that meets the logits.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use patchlight_engine::{BareSession, Runtime, Values};
use patchlight_model::manifest::{HeadFusion, Manifest, Precision};
use patchlight_onnx::{
    proto::ModelProto,
    vit::{
        encoder,
        fused::{FusedShape, PixelNormalization, fuse},
    },
};
use prost::Message;
use tempfile::TempDir;

use super::super::{ImportOptions, Source, run};

/// What `make.py` wrote down.
#[derive(serde::Deserialize)]
pub(super) struct Golden {
    pub(super) pixel_values: Vec<Vec<f32>>,
    pub(super) logits: Vec<Vec<f32>>,
    /// By fusion, image, start block, token.
    #[serde(default)]
    rollout_by_start: BTreeMap<String, Vec<Vec<Vec<f32>>>>,
    /// By image, where the formula is worked there, too.
    #[serde(default)]
    pub(super) evidence: Vec<GoldenEvidence>,
}

/// Of the best classes, then of the mean over all.
#[derive(serde::Deserialize)]
pub(super) struct GoldenEvidence {
    pub(super) patches: Vec<Vec<f32>>,
    pub(super) rest: Vec<f32>,
    pub(super) classes: Vec<usize>,
}

/// ONNX Runtime allows one environment per process.
pub(super) fn runtime() -> Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Runtime::load().expect("the ONNX Runtime library loads"))
        .clone()
}

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/goldens/families"
    ))
    .join(name)
}

fn imported(name: &str, head_fusion: HeadFusion, precision: Precision) -> (TempDir, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let options = ImportOptions {
        head_fusion,
        precision,
        runtime: Some(runtime()),
        ..ImportOptions::new(
            Source::Checkpoint(golden(name)),
            folder.path().join("model"),
        )
    };
    let manifest = run(&options, &mut |_| {}).unwrap().manifest;
    (folder, manifest)
}

/// The outputs for images in one batch.
fn answers(folder: &TempDir, manifest: &Manifest, images: &[Vec<f32>]) -> BTreeMap<String, Values> {
    let graph = folder.path().join("model/model.onnx");
    let mut session = BareSession::open(&runtime(), &graph).unwrap();
    let (height, width) = manifest.input_size().unwrap();
    let shape = [images.len(), 3, height, width];
    session
        .run(&[("pixel_values", &shape, &images.concat())])
        .unwrap()
}

#[track_caller]
pub(super) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let near = (found - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(near, "{what} at {at}: {found}, expected {expected}");
    }
}

/// Evidence and rest meet the logits, those of the best classes and their mean.
#[track_caller]
pub(super) fn assert_account_closes(
    answers: &BTreeMap<String, Values>,
    images: usize,
    tolerance: f32,
    what: &str,
) {
    let of = |name: &str, image: usize| {
        let values = &answers[name].values;
        let each = values.len() / images;
        &values[image * each..][..each]
    };
    for image in 0..images {
        let (logits, rest) = (of("logits", image), of("evidence_rest", image));
        let patches = of("evidence", image);
        let mean = logits.iter().sum::<f32>() / logits.len() as f32;
        let best = of("evidence_class", image)
            .iter()
            .map(|&class| logits[class as usize]);
        for (row, target) in best.chain([mean]).enumerate() {
            let each = patches.len() / rest.len();
            let sum = patches[row * each..][..each].iter().sum::<f32>() + rest[row];
            let near = (sum - target).abs() < tolerance * target.abs().max(1.0);
            assert!(
                near,
                "{what}, image {image}, row {row}: {sum}, logit {target}"
            );
        }
    }
}

/// Logits and evidence within 1e-4 of their size, rollouts within 1e-5, sums of evidence within 1e-3.
fn agrees_with_library(name: &str) {
    let text = fs::read_to_string(golden(name).join("expected.json")).unwrap();
    let expected: Golden = serde_json::from_str(&text).unwrap();
    let images = expected.pixel_values.len();
    for fusion in [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min] {
        let fused = format!("{fusion:?}").to_lowercase();
        let (folder, manifest) = imported(name, fusion, Precision::Fp32);
        let answers = answers(&folder, &manifest, &expected.pixel_values);
        let of = |output: &str, image: usize| {
            let values = &answers[output].values;
            let each = values.len() / images;
            &values[image * each..][..each]
        };
        assert_account_closes(&answers, images, 1e-3, name);
        for image in 0..images {
            let what = |output: &str| format!("{name}, {fused}, image {image}, {output}");
            assert_close(
                of("logits", image),
                &expected.logits[image],
                1e-4,
                &what("logits"),
            );
            let rollout = expected.rollout_by_start[&fused][image].concat();
            assert_close(
                of("rollout_by_start", image),
                &rollout,
                1e-5,
                &what("rollout"),
            );
            let tokens = &manifest.tokens;
            let whole = &rollout[tokens.prefix..tokens.total()];
            assert_close(of("rollout", image), whole, 1e-5, &what("map"));
            if let Some(evidence) = expected.evidence.get(image) {
                let patches = evidence.patches.concat();
                assert_close(of("evidence", image), &patches, 1e-4, &what("evidence"));
                assert_close(
                    of("evidence_rest", image),
                    &evidence.rest,
                    1e-4,
                    &what("rest"),
                );
                let classes: Vec<f32> =
                    evidence.classes.iter().map(|&class| class as f32).collect();
                assert_eq!(of("evidence_class", image), classes, "{}", what("classes"));
            }
        }
    }
}

macro_rules! agree_with_their_libraries {
    ($($test:ident: $golden:literal,)*) => {
        $(#[test]
        fn $test() {
            agrees_with_library($golden);
        })*
    };
}

agree_with_their_libraries! {
    siglip_reads_the_mean_and_leaves_the_pooling_head: "siglip",
    siglip2_takes_patches_as_flat_vectors: "siglip2",
    clip_reads_a_mean_that_nothing_normalises: "clip",
    dinov2_resamples_positions_for_its_preprocessing: "dinov2",
    dinov2_with_a_gated_mlp_in_one_tensor: "dinov2_gated",
    dinov2_registers_have_no_positions_and_resample_with_antialiasing: "dinov2_registers",
    msn_as_version_5_names_its_blocks: "msn",
    ijepa_has_no_class_token: "ijepa",
    beit_normalises_the_mean_and_has_no_key_bias: "beit",
    beit_with_one_table_for_all_blocks_and_a_class_token: "beit_shared_class_token",
    data2vec_has_a_table_a_block: "data2vec",
    timm_siglip_pools_by_attention: "timm_siglip",
    timm_siglip2_reads_a_mean: "timm_siglip2_mean",
    timm_dinov2_giant_packs_its_gate_first: "timm_dinov2_giant",
    timm_queries_and_keys_normalised: "timm_qk_norm",
    timm_normalised_after_attention_and_mlp: "timm_post_norm",
    timm_attention_and_mlp_side_by_side: "timm_parallel_scaling",
    timm_two_attentions_side_by_side: "timm_parallel_things",
    timm_beit3_normalises_inside_attention_and_mlp: "timm_beit3",
    timm_beit: "timm_beit",
    timm_beitv2_of_a_wide_image_with_class_token: "timm_beitv2_wide_class_token",
    timm_eva_without_rotation: "timm_eva",
    timm_eva02_turns_neighbouring_values: "timm_eva02",
    timm_eva02_with_class_token_and_gate_in_one_tensor: "timm_eva02_class_token",
    timm_eva02_normalised_after_attention: "timm_eva02_post_norm",
    timm_dinov3_turns_halves: "timm_dinov3",
    timm_dinov3_gated_with_class_token: "timm_dinov3_gated_class_token",
    timm_perception_encoder_pools_prefix_tokens_too: "timm_pe",
}

/// In eight and in sixteen bits the account closes against the graph's own logits, which stay near
/// those of float32.
#[test]
fn every_kind_of_block_computes_in_lower_precision() {
    for name in [
        "dinov2_gated",
        "beit",
        "timm_eva02_post_norm",
        "timm_beit3",
        "timm_siglip",
        "timm_parallel_things",
    ] {
        let text = fs::read_to_string(golden(name).join("expected.json")).unwrap();
        let expected: Golden = serde_json::from_str(&text).unwrap();
        let images = expected.pixel_values.len();
        for (precision, tolerance, account) in [
            (Precision::Fp16, 0.05, 0.05),
            (Precision::Bf16, 0.05, 1e-3),
            (Precision::Int8, 0.3, 1e-3),
        ] {
            let (folder, manifest) = imported(name, HeadFusion::Mean, precision);
            let answers = answers(&folder, &manifest, &expected.pixel_values);
            assert_account_closes(&answers, images, account, name);
            let what = format!("{name}, {precision}");
            let logits = expected.logits.concat();
            let size = logits
                .iter()
                .fold(1.0_f32, |size, logit| size.max(logit.abs()));
            let scaled =
                |values: &[f32]| values.iter().map(|value| value / size).collect::<Vec<_>>();
            assert_close(
                &scaled(&answers["logits"].values),
                &scaled(&logits),
                tolerance,
                &what,
            );
        }
    }
}

/// Kernels know the plain network; what has another part, or starts its rollout elsewhere, is left
/// to the runtime.
#[test]
fn rewriting_for_kernels_refuses_what_kernels_do_not_compute() {
    let others = [
        "dinov2",
        "dinov2_gated",
        "beit",
        "timm_siglip",
        "timm_qk_norm",
        "timm_post_norm",
        "timm_parallel_scaling",
        "timm_parallel_things",
        "timm_beit3",
        "timm_eva02",
        "timm_dinov3",
    ];
    for name in others {
        for precision in [Precision::Fp32, Precision::Fp16] {
            let (folder, manifest) = imported(name, HeadFusion::Mean, precision);
            let graph = fs::read(folder.path().join("model/model.onnx")).unwrap();
            let model = ModelProto::decode(graph.as_slice()).unwrap();
            let (height, width) = manifest.input_size().unwrap();
            let shape = FusedShape {
                layers: manifest.architecture.layers,
                heads: manifest.architecture.heads,
                hidden: manifest.architecture.hidden,
                tokens: manifest.tokens.total(),
                image: [height, width],
                head_fusion: manifest.rollout.head_fusion,
            };
            let normalization = PixelNormalization {
                scale: 1.0,
                mean: [0.0; 3],
                std: [1.0; 3],
            };
            match precision {
                Precision::Fp16 => assert!(fuse(model, &shape, &normalization).is_err(), "{name}"),
                _ => assert!(encoder::cut(&model, &shape).is_err(), "{name}"),
            }
        }
    }
}
