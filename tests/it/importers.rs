//! Checkpoints of every layout answer what the library that wrote them answers.

mod interrupted;
mod refusals;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use patchlight_imaging::preprocess::{Crop, CropRounding, Filter, Resize};
use patchlight_import::{self as import, ImportOptions, PreprocessSource, Source};
use patchlight_model::manifest::TaskKind;

use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

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
fn timm_clip_normalises_before_the_first_block() {
    agrees_with_timm("clip");
}

#[test]
fn timm_silu_and_projections_without_biases_in_the_wrapper_of_transformers() {
    agrees_with_timm("silu_without_biases");
}

#[test]
fn timm_positions_are_resampled_with_antialiasing() {
    agrees_resized("timm/class_token", 24);
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
        fill: [0; 3],
    };
    assert_eq!(found.crop, Some(crop));
    let labels = fs::read_to_string(folder.path().join("labels.txt")).unwrap();
    assert_eq!(labels, "n01440764\nKüche, offen\n odd \nd\ne\n");
    assert_eq!(manifest.task.kind, TaskKind::SingleLabel);
}

#[test]
fn deit_without_a_classifier_on_its_distillation_token() {
    let name = "transformers/deit";
    agrees(&options(name), &golden(name).join("expected.json"));
}

#[test]
fn deit_with_teacher_averages_both_heads_and_is_read_from_shards() {
    let name = "transformers/deit_teacher";
    agrees(&options(name), &golden(name).join("expected.json"));
    let (_, manifest) = imported_with(options(name));
    assert!(manifest.provenance.source_files.len() > 3);
    assert_eq!((manifest.tokens.prefix, manifest.tokens.grid), (2, [2, 2]));
    assert_eq!(manifest.task.kind, TaskKind::MultiLabel);
}

#[test]
fn deit_from_a_torch_archive() {
    let folder = golden("transformers/deit");
    let options = options("transformers/deit/pytorch_model.bin");
    agrees(&options, &folder.join("expected.json"));
}

#[test]
fn transformers_positions_are_resampled_without_antialiasing() {
    agrees_resized("transformers/deit", 24);
    agrees_resized("transformers/deit_teacher", 24);
}

/// A tiny torchvision model, which is no stock model, with all that has to be said about it.
fn torchvision(file: &str) -> (tempfile::TempDir, ImportOptions) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let described = folder.path().join("preprocess.toml");
    fs::write(
        &described,
        "[preprocess]\nfilter = 'bilinear'\nresize = { mode = 'shortest-edge', size = 18 }\n\
         crop = { height = 16, width = 16, rounding = 'half-even' }\n\
         normalize = { scale = 0.00392156862745098, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }\n",
    )
    .unwrap();
    let options = ImportOptions {
        heads: Some(3),
        preprocess: Some(PreprocessSource::File(described)),
        ..options(&format!("torchvision/tiny/{file}"))
    };
    (folder, options)
}

#[test]
fn torchvision_state_dicts_in_four_forms() {
    let files = [
        "weights.pth",
        "weights.safetensors",
        "training.pth",
        "legacy.pth",
    ];
    for file in files {
        let (_folder, options) = torchvision(file);
        agrees(&options, &golden("torchvision/tiny/expected.json"));
    }
}

#[test]
fn torchvision_positions_are_resampled_from_corner_to_corner() {
    let (_folder, options) = torchvision("weights.pth");
    let options = ImportOptions {
        image_size: Some(24),
        ..options
    };
    agrees(&options, &golden("torchvision/tiny/expected_24.json"));
    let (_, manifest) = imported_with(options);
    assert_eq!(
        manifest.preprocess.resize,
        Resize::ShortestEdge { size: 27 }
    );
}

#[test]
fn torchvision_says_what_it_has_to_be_told() {
    let (_folder, complete) = torchvision("weights.pth");
    let message = refusal(&ImportOptions {
        heads: None,
        ..complete.clone()
    });
    assert!(message.contains("--heads N"), "{message}");
    let message = refusal(&ImportOptions {
        heads: Some(5),
        ..complete.clone()
    });
    assert!(message.contains("--heads 5 does not divide"), "{message}");
    let message = refusal(&ImportOptions {
        preprocess: None,
        ..complete.clone()
    });
    assert!(
        message.contains("--preprocess torchvision:vit_b_16"),
        "{message}"
    );
    let preset = |name: &str| ImportOptions {
        preprocess: Some(PreprocessSource::TorchVision(name.to_owned())),
        ..complete.clone()
    };
    let message = refusal(&preset("vit_b_16"));
    assert!(
        message.contains("224×224, but the network takes 16×16"),
        "{message}"
    );
    let message = refusal(&preset("vit_g_14"));
    assert!(message.contains("vit_h_14:swag_e2e"), "{message}");
}

#[test]
fn jax_files_of_three_generations() {
    for name in ["augreg", "original", "big_vision", "big_vision_stacked"] {
        let options = options(&format!("jax/{name}.npz"));
        agrees(&options, &golden(&format!("jax/{name}.json")));
    }
}

#[test]
fn jax_files_below_another_name() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("wrapped.npz");
    let mut from = ZipArchive::new(File::open(golden("jax/augreg.npz")).unwrap()).unwrap();
    let mut to = ZipWriter::new(File::create(&path).unwrap());
    for entry in 0..from.len() {
        let mut entry = from.by_index(entry).unwrap();
        let name = format!("state/net/{}", entry.name().unwrap());
        to.start_file(name, SimpleFileOptions::default()).unwrap();
        io::copy(&mut entry, &mut to).unwrap();
    }
    to.finish().unwrap();
    let options = ImportOptions::new(Source::Checkpoint(path), PathBuf::new());
    agrees(&options, &golden("jax/augreg.json"));
}

#[test]
fn classes_without_names_are_numbered() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = ImportOptions {
        out: folder.path().to_owned(),
        ..options("jax/augreg.npz")
    };
    let summary = import::run(&options, &mut |_| {}).unwrap();
    assert!(summary.to_string().contains("--labels FILE"));
    let labels = fs::read_to_string(folder.path().join("labels.txt")).unwrap();
    assert!(labels.starts_with("class 0\nclass 1\n"));
}

#[test]
fn sizes_that_patches_do_not_divide_are_refused() {
    let message = refusal(&ImportOptions {
        image_size: Some(20),
        ..options("jax/augreg.npz")
    });
    assert!(
        message.contains("not a multiple of the patch size 8"),
        "{message}"
    );
}

/// Nothing but one file of weights, whatever its name.
#[test]
fn a_directory_with_one_file_of_weights_is_that_file() {
    for (file, name) in [
        ("torchvision/tiny/weights.pth", "net.pt"),
        ("torchvision/tiny/weights.safetensors", "net.safetensors"),
    ] {
        let (_folder, options) = torchvision("weights.pth");
        let alone = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::copy(golden(file), alone.path().join(name)).unwrap();
        // None of these is one.
        for other in ["._net.pt", "optimizer.pt", "README.md"] {
            fs::write(alone.path().join(other), b"").unwrap();
        }
        let options = ImportOptions {
            source: Source::Checkpoint(alone.path().to_owned()),
            ..options
        };
        agrees(&options, &golden("torchvision/tiny/expected.json"));
    }
    let alone = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::copy(golden("jax/augreg.npz"), alone.path().join("B_16.npz")).unwrap();
    let source = Source::Checkpoint(alone.path().to_owned());
    let options = ImportOptions::new(source, PathBuf::new());
    agrees(&options, &golden("jax/augreg.json"));

    fs::write(alone.path().join("L_16.npz"), b"").unwrap();
    let message = refusal(&options);
    assert!(message.contains("B_16.npz, L_16.npz"), "{message}");
    let empty = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let source = Source::Checkpoint(empty.path().to_owned());
    let message = refusal(&ImportOptions::new(source, PathBuf::new()));
    assert!(
        message.contains(".safetensors, .bin, .pth, .pt, .ckpt, .npz or .onnx"),
        "{message}"
    );
}

/// timm's and torchvision's names below a wrapper's.
#[test]
fn checkpoints_of_wrapper_classes_answer_the_same() {
    let wrapped = |path: &str, folder: &Path| {
        let bytes = fs::read(golden(path)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let named = tensors
            .iter()
            .map(|(name, view)| (format!("model.net.{name}"), view));
        safetensors::serialize_to_file(named, None, &folder.join("model.safetensors")).unwrap();
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    wrapped("timm/class_token/model.safetensors", folder.path());
    fs::copy(
        golden("timm/class_token/config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let source = Source::Checkpoint(folder.path().to_owned());
    agrees(
        &ImportOptions::new(source.clone(), PathBuf::new()),
        &golden("timm/class_token/expected.json"),
    );

    fs::remove_file(folder.path().join("config.json")).unwrap();
    wrapped("torchvision/tiny/weights.safetensors", folder.path());
    let (_folder, options) = torchvision("weights.pth");
    agrees(
        &ImportOptions { source, ..options },
        &golden("torchvision/tiny/expected.json"),
    );
}
