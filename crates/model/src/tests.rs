use super::*;

const MANIFEST_TEXT: &str = r#"
format = 1

[architecture]
name = "ViT-Ti/16"
layers = 2
heads = 3
hidden = 12
mlp = 24
patch = 16
parameters = 1000
gmac = 0.1

[task]
kind = "single-label"
classes = 2

[graph]
file = "model.onnx"
input = "pixel_values"
logits = "logits"
rollout = "rollout"
rollout_by_start = "rollout_by_start"
precision = "fp32"

[tokens]
prefix = 1
grid = [2, 2]

[rollout]
head_fusion = "mean"

[preprocess]
filter = "bilinear"

[preprocess.resize]
mode = "squash"
height = 32
width = 32

[preprocess.normalize]
scale = 0.00392156862745098
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]

[files]
"labels.txt" = "LABELS"
"model.onnx" = "GRAPH"

[provenance]
source = "test"
importer = "test"
"#;

/// A directory that passes, and the text of its manifest.
fn directory() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.onnx"), b"graph").unwrap();
    fs::write(folder.path().join("labels.txt"), b"cat\ndog\n").unwrap();
    let text = MANIFEST_TEXT
        .replace("LABELS", &digest::sha256(b"cat\ndog\n"))
        .replace("GRAPH", &digest::sha256(b"graph"));
    fs::write(folder.path().join(MANIFEST), &text).unwrap();
    (folder, text)
}

fn refusal(folder: &tempfile::TempDir) -> String {
    ModelInfo::open(folder.path()).unwrap_err().to_string()
}

#[test]
fn a_whole_directory_is_taken() {
    let (folder, _) = directory();
    let model = ModelInfo::open(folder.path()).unwrap();
    assert_eq!(model.labels.name(1), "dog");
    assert_eq!(
        model.name,
        folder.path().file_name().unwrap().to_str().unwrap()
    );
    assert_eq!(model.digest.len(), 64);
}

#[test]
fn a_changed_graph_is_named() {
    let (folder, _) = directory();
    fs::write(folder.path().join("model.onnx"), b"grapf").unwrap();
    let error = refusal(&folder);
    assert!(
        error.contains("model.onnx") && error.contains("SHA-256"),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let (folder, _) = directory();
    fs::remove_file(folder.path().join("model.onnx")).unwrap();
    assert!(refusal(&folder).contains("model.onnx"));
}

#[test]
fn an_unknown_field_is_named() {
    let (folder, text) = directory();
    fs::write(
        folder.path().join(MANIFEST),
        text.replace("prefix =", "prefixes ="),
    )
    .unwrap();
    assert!(refusal(&folder).contains("prefixes"));
}

#[test]
fn another_format_is_refused_by_number() {
    let (folder, text) = directory();
    fs::write(
        folder.path().join(MANIFEST),
        text.replace("format = 1", "format = 2"),
    )
    .unwrap();
    let error = refusal(&folder);
    assert!(error.contains("format 2"), "{error}");
}

#[test]
fn attribution_for_more_labels_than_classes_is_refused() {
    let (folder, text) = directory();
    let attribution =
        "[graph.evidence]\npatches = \"e\"\nrest = \"r\"\nclasses = \"c\"\nlabels = 3\n";
    fs::write(
        folder.path().join(MANIFEST),
        text.replace("[tokens]", &format!("{attribution}\n[tokens]")),
    )
    .unwrap();
    let error = refusal(&folder);
    assert!(error.contains("graph.evidence.labels is 3"), "{error}");
}

#[test]
fn a_path_that_leaves_the_directory_is_refused() {
    let (folder, text) = directory();
    fs::write(
        folder.path().join(MANIFEST),
        text.replace("\"model.onnx\" =", "\"../model.onnx\" ="),
    )
    .unwrap();
    let error = refusal(&folder);
    assert!(error.contains("../model.onnx"), "{error}");
}

#[test]
fn a_grid_that_does_not_fit_the_input_is_refused() {
    let (folder, text) = directory();
    fs::write(
        folder.path().join(MANIFEST),
        text.replace("grid = [2, 2]", "grid = [3, 2]"),
    )
    .unwrap();
    let error = refusal(&folder);
    assert!(error.contains("grid"), "{error}");
}

#[test]
fn a_wrong_number_of_labels_is_refused() {
    let (folder, text) = directory();
    fs::write(
        folder.path().join(MANIFEST),
        text.replace("classes = 2", "classes = 3"),
    )
    .unwrap();
    let error = refusal(&folder);
    assert!(error.contains("2 labels for 3 classes"), "{error}");
}
