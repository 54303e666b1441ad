//! Checkpoints of every family answer what the library that wrote them answers: logits, rollouts of
//! every head fusion, and evidence that meets the logits.

use std::path::{Path, PathBuf};

use patchlight_import::{ImportOptions, Source};

use crate::graph::agrees;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/families")
        .join(name)
}

pub(crate) fn options(name: &str) -> ImportOptions {
    ImportOptions::new(Source::Checkpoint(golden(name)), PathBuf::new())
}

fn agrees_with_library(name: &str) {
    agrees(&options(name), &golden(name).join("expected.json"));
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
