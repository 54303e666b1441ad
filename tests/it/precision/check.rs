//! `import --check`: lower precision beside float32 on images.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use patchlight_model::manifest::Manifest;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

const DEMO: &str = "models/demo/checkpoint";

fn import(source: &Path, arguments: &[&str], out: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_patchlight"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("import")
        .arg(source)
        .arg("--out")
        .arg(out)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn int8_without_images_to_check_is_refused() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = folder.path().join("model");
    let (status, said) = import(Path::new(DEMO), &["--precision", "int8"], &out);
    assert_eq!(status, Some(2));
    assert!(said.contains("--check DIR"), "{said}");
    let (status, said) = import(Path::new(DEMO), &["--check", "models/samples"], &out);
    assert_eq!(status, Some(2));
    assert!(said.contains("--precision int8, bf16 or fp16"), "{said}");
    assert!(!out.exists());
}

/// Both precisions run on the images in the folder; what was found is in the summary and in
/// `model.toml`, and nothing but the model directory is left.
#[test]
fn check_compares_on_the_images_and_is_written_down() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for precision in ["int8", "bf16", "fp16"] {
        let out = folder.path().join(precision);
        let arguments = ["--precision", precision, "--check", "models/samples"];
        let (status, said) = import(Path::new(DEMO), &arguments, &out);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("against fp32 on 10 images"), "{said}");
        assert_eq!(
            said.contains("error of each layer"),
            precision == "int8",
            "{said}"
        );

        let manifest = fs::read_to_string(out.join("model.toml")).unwrap();
        let manifest: Manifest = toml::from_str(&manifest).unwrap();
        assert_eq!(manifest.graph.precision.to_string(), precision);
        let check = manifest.provenance.check.unwrap();
        assert_eq!(check.images, 10);
        assert!(check.top1_agreement >= 0.8, "{check:?}");
        assert!(
            check.score_drift > 0.0 && check.score_drift < 0.2,
            "{check:?}"
        );
        assert!(check.map_drift < 0.05, "{check:?}");
        assert!(check.float32_layers.is_empty());
        let mut names: Vec<String> = fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["labels.txt", "model.onnx", "model.toml"]);
    }
}

#[test]
fn images_that_cannot_be_compared_leave_no_directory() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let images = folder.path().join("pictures");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("broken.png"), b"not a picture").unwrap();
    let out = folder.path().join("model");
    let check = images.to_str().unwrap();
    let (status, said) = import(
        Path::new(DEMO),
        &["--precision", "int8", "--check", check],
        &out,
    );
    assert_eq!(status, Some(1));
    assert!(said.contains("broken.png"), "{said}");
    assert!(!out.exists());
}

/// Blocks whose normalisations get a channel of outliers.
const OUTLIERS: [usize; 8] = [1, 2, 4, 5, 7, 8, 10, 11];

/// The demo's network with one channel 4096 times as large after the normalisations of some blocks,
/// and divided again by the kernels that read it. In float32 that changes nothing, as scales that
/// are powers of two are exact; eight bits have no room left for the other channels.
fn with_outliers(folder: &Path) {
    for entry in fs::read_dir(DEMO).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let file = folder.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let mut changed = BTreeMap::new();
    for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().iter() {
        assert_eq!(tensor.dtype(), Dtype::F16);
        let halves = tensor.data().as_chunks().0.iter();
        let mut values: Vec<f32> = halves
            .map(|&b| half::f16::from_le_bytes(b).to_f32())
            .collect();
        let block = OUTLIERS.map(|block| format!("vit.encoder.layer.{block}."));
        if let Some(part) = block
            .iter()
            .find_map(|block| name.strip_prefix(block.as_str()))
        {
            match (part.starts_with("layernorm_"), tensor.shape()) {
                (true, _) => values[7] *= 4096.0,
                (false, &[_, width]) if reads_normalised(part) => {
                    values
                        .iter_mut()
                        .skip(7)
                        .step_by(width)
                        .for_each(|v| *v /= 4096.0);
                }
                _ => {}
            }
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        changed.insert(name.to_owned(), (tensor.shape().to_vec(), bytes));
    }
    let views = changed.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn reads_normalised(part: &str) -> bool {
    let readers = ["query", "key", "value", "intermediate.dense"];
    readers.iter().any(|reader| part.contains(reader))
}

#[test]
fn layers_that_read_outliers_are_found_and_stay_in_float32() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (source, out) = (folder.path().join("source"), folder.path().join("model"));
    fs::create_dir(&source).unwrap();
    with_outliers(&source);
    let check = ["--precision", "int8", "--check", "models/samples"];
    let arguments = [check.as_slice(), &["--min-agreement", "0.8"]].concat();
    let (status, said) = import(&source, &arguments, &out);
    assert_eq!(status, Some(0), "{said}");
    let manifest = fs::read_to_string(out.join("model.toml")).unwrap();
    let manifest: Manifest = toml::from_str(&manifest).unwrap();
    let checked = manifest.provenance.check.unwrap();
    assert!(checked.top1_agreement >= 0.8, "{checked:?}");
    let layers =
        OUTLIERS.map(|block| ["attention/qkv", "mlp/up"].map(|p| format!("block.{block}/{p}")));
    let layers = layers.concat();
    assert!(!checked.float32_layers.is_empty());
    assert!(
        checked
            .float32_layers
            .iter()
            .all(|kept| layers.contains(kept)),
        "{checked:?}"
    );
}
