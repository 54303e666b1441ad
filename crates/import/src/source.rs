//! Which layout a source has.

use std::path::{Path, PathBuf};

use patchlight_model::manifest::TaskKind;
use serde_json::Value;

use super::{
    Checkpoint, ImportError, ImportOptions, error::quoted, huggingface, jax,
    paths::CheckpointPaths, preprocessing, sidecar::SidecarMetadata, small_file::json, tensor_file,
    timm, torchvision,
};

/// The exported graph that a source is: an `.onnx` file, or a directory with `model.onnx` or a
/// single other `.onnx` file, and no weights of another kind.
pub(super) fn graph(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        if tensor_file::find_named(path).is_some() {
            return None;
        }
        let graph = path.join("model.onnx");
        let found = match graph.is_file() {
            true => graph,
            false => tensor_file::find(path).ok()?,
        };
        return graph_file(&found);
    }
    graph_file(path)
}

fn graph_file(path: &Path) -> Option<PathBuf> {
    let extension = path.extension()?.to_ascii_lowercase();
    (extension == "onnx").then(|| path.to_owned())
}

/// Finds out what a directory or file is and opens it.
pub(super) fn open(path: &Path, options: &ImportOptions) -> Result<Checkpoint, ImportError> {
    let paths = CheckpointPaths::at(path)?;
    let weights = paths.weights()?;
    let compared_with_texts = match &paths.config {
        Some(config) => matches!(config_format(config)?, ConfigFormat::HuggingFace),
        None => false,
    };
    if !compared_with_texts {
        refuse_text_embeddings(options)?;
    }
    let extension = weights.extension().unwrap_or_default();
    if extension.eq_ignore_ascii_case("npz") {
        return jax::open(&weights, &paths, options);
    }
    if let Some(config) = &paths.config {
        return match config_format(config)? {
            ConfigFormat::HuggingFace => huggingface::open(&paths, options),
            ConfigFormat::Timm => timm::open(&paths, options),
        };
    }
    let file = tensor_file::open(&weights)?;
    let has = |name: &str| tensor_file::has(file.as_ref(), name);
    if has(torchvision::MARKER_TENSOR) {
        return torchvision::open(file, &paths, options);
    }
    let detail = if has(timm::MARKER_TENSOR) {
        "has timm's tensor names, but no config.json beside it; take both from the model's page, \
         or write them with timm.models.save_for_hf"
            .to_owned()
    } else if has("vit.embeddings.cls_token") || has("deit.embeddings.cls_token") {
        "has transformers' tensor names, but no config.json beside it; write both with \
         model.save_pretrained(DIRECTORY)"
            .to_owned()
    } else {
        format!(
            "is of no known layout: expected are tensors such as `{}` (torchvision), \
             `patch_embed.proj.weight` (timm) or `vit.embeddings.cls_token` (transformers), \
             found are {} tensors, such as {}",
            torchvision::MARKER_TENSOR,
            file.names().len(),
            quoted(
                &file
                    .names()
                    .into_iter()
                    .take(3)
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        )
    };
    Err(ImportError::malformed(&weights, detail))
}

/// Refuses embeddings of texts where the source has no place for them.
///
/// # Errors
/// If there are some.
pub(super) fn refuse_text_embeddings(options: &ImportOptions) -> Result<(), ImportError> {
    let Some(texts) = &options.text_embeddings else {
        return Ok(());
    };
    let detail = "are for networks that compare images with texts, as transformers saves them: a \
                  directory with the config.json of a CLIP or SigLIP model and its weights";
    Err(ImportError::text_embeddings(texts, detail))
}

/// What the files beside an exported graph say: `config.json` and what belongs to it; without one,
/// what the command line says.
///
/// # Errors
/// If a file cannot be read, or nothing tells how images become inputs.
pub(super) fn describe(
    paths: &CheckpointPaths,
    options: &ImportOptions,
    patch: Option<usize>,
    classes: usize,
) -> Result<SidecarMetadata, ImportError> {
    if let Ok(config) = paths.config() {
        return match config_format(config)? {
            ConfigFormat::HuggingFace => huggingface::describe(paths, options, classes),
            ConfigFormat::Timm => timm::describe(paths, options, patch, classes),
        };
    }
    let (preprocess, source_files) = preprocessing::of(paths, options, || {
        Err(ImportError::Preprocess(
            "the graph does not tell how images are resized and normalised, and there is no \
             config.json beside it; put the model's config.json (and its \
             preprocessor_config.json, of Hugging Face) there, or describe it with --preprocess"
                .to_owned(),
        ))
    })?;
    Ok(SidecarMetadata {
        name: None,
        layers: None,
        heads: options.heads,
        image: None,
        pooling: None,
        preprocess,
        labels: None,
        task: TaskKind::SingleLabel,
        source_files,
    })
}

/// Which library wrote a `config.json`.
enum ConfigFormat {
    HuggingFace,
    Timm,
}

/// Tells which library wrote it.
fn config_format(path: &Path) -> Result<ConfigFormat, ImportError> {
    let config: Value = json(path)?;
    let timm_inside = config["model_type"] == "timm_wrapper";
    if config.get("architecture").is_some_and(Value::is_string) || timm_inside {
        return Ok(ConfigFormat::Timm);
    }
    Ok(ConfigFormat::HuggingFace)
}
