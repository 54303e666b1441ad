//! Checkpoints of every layout answer what the library that wrote them answers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use patchlight::{
    import::{self, ImportOptions, Source},
    model::manifest::TaskKind,
    preprocess::{Crop, CropRounding, Filter, Resize},
};

use crate::graph::{agrees, imported_with};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(path)
}

fn options(path: &str) -> ImportOptions {
    ImportOptions::new(Source::Checkpoint(golden(path)), PathBuf::new())
}

/// The message of an import that fails.
fn refusal(options: &ImportOptions) -> String {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = ImportOptions {
        out: folder.path().join("model"),
        ..options.clone()
    };
    import::run(&options, &mut |_| {}).unwrap_err().to_string()
}

fn agrees_with_timm(name: &str) {
    let folder = format!("timm/{name}");
    agrees(&options(&folder), &golden(&folder).join("expected.json"));
}

fn agrees_resized(name: &str, side: usize) {
    let folder = golden(name);
    let options = ImportOptions {
        image_size: Some(side),
        ..options(name)
    };
    agrees(&options, &folder.join(format!("expected_{side}.json")));
}

#[test]
fn timm_class_token() {
    agrees_with_timm("class_token");
}

#[test]
fn timm_heads_by_the_name_of_the_architecture() {
    agrees_with_timm("heads_by_name");
}

#[test]
fn timm_float16_without_qkv_bias() {
    agrees_with_timm("no_qkv_bias_float16");
}

#[test]
fn timm_mean_normalised_afterwards_and_no_prefix() {
    agrees_with_timm("fc_norm");
}

#[test]
fn timm_mean_normalised_first_without_registers() {
    agrees_with_timm("mean_norm_first");
}

#[test]
fn timm_mean_leaves_the_class_token_out() {
    agrees_with_timm("mean_with_class_token");
}

#[test]
fn timm_registers_and_layer_scale_in_bfloat16() {
    agrees_with_timm("registers_layer_scale");
}

#[test]
fn timm_wide_grid_with_positions_for_a_register() {
    agrees_with_timm("wide_registers_with_positions");
}

#[test]
fn timm_deit3_as_a_torch_archive() {
    agrees_with_timm("deit3");
}

#[test]
fn timm_deit_distilled_averages_both_heads() {
    agrees_with_timm("deit_distilled");
}

#[test]
fn timm_tanh_gelu_as_a_float16_torch_archive() {
    agrees_with_timm("tanh");
}

#[test]
fn timm_positions_are_resampled_with_antialiasing() {
    agrees_resized("timm/class_token", 40);
    agrees_resized("timm/deit3", 24);
}

#[test]
fn timm_transforms_and_labels_are_taken_over() {
    let (folder, manifest) = imported_with(options("timm/fc_norm"));
    let found = manifest.preprocess;
    assert_eq!(found.resize, Resize::ShortestEdge { size: 16 }); // ⌊16 / 0.95⌋
    assert_eq!(found.filter, Filter::Bicubic);
    let crop = Crop {
        height: 16,
        width: 16,
        rounding: CropRounding::HalfEven,
    };
    assert_eq!(found.crop, Some(crop));
    let labels = fs::read_to_string(folder.path().join("labels.txt")).unwrap();
    assert_eq!(labels, "n01440764\nKüche, offen\n odd \nd\ne\n");
    assert_eq!(manifest.task.kind, TaskKind::SingleLabel);
}
