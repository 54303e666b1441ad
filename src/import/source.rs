//! Which layout a source has, and where its parts lie.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Checkpoint, ImportError, ImportOptions, error::quoted, huggingface, jax, small_file::json,
    tensor_file, timm, torchvision,
};

const CONFIG: &str = "config.json";

/// A source's parts: the directory, and the file of weights if that was named.
#[derive(Debug)]
pub(super) struct Located {
    directory: PathBuf,
    weights: Option<PathBuf>,
    config: Option<PathBuf>,
}

/// The exported graph that a source is: an `.onnx` file, or a directory with `model.onnx` or a single
/// other `.onnx` file, and no weights of another kind.
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
    let located = Located::at(path)?;
    let weights = located.weights()?;
    let extension = weights.extension().unwrap_or_default();
    if extension.eq_ignore_ascii_case("npz") {
        return jax::open(&weights, &located, options);
    }
    if let Some(config) = &located.config {
        return match description(config)? {
            Description::HuggingFace => huggingface::open(&located, options),
            Description::Timm => timm::open(&located, options),
        };
    }
    let file = tensor_file::open(&weights)?;
    let has = |name: &str| tensor_file::has(file.as_ref(), name);
    if has(torchvision::MARK) {
        return torchvision::open(file, &located, options);
    }
    let detail = if has(timm::MARK) {
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
            torchvision::MARK,
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

impl Located {
    /// The parts of an exported graph, whose description may lie one folder up: on the Hub graphs
    /// are often in a folder `onnx`.
    pub(super) fn of_graph(path: &Path) -> Result<Self, ImportError> {
        let located = Self::at(path)?;
        let above = located.directory.parent();
        match above {
            Some(above) if located.config.is_none() && located.directory.ends_with("onnx") => {
                let config = above.join(CONFIG);
                Ok(Self {
                    directory: above.to_owned(),
                    config: config.is_file().then_some(config),
                    ..located
                })
            }
            _ => Ok(located),
        }
    }

    fn at(path: &Path) -> Result<Self, ImportError> {
        let kind = fs::metadata(path).map_err(ImportError::file(path, "open it"))?;
        let (directory, weights) = match kind.is_dir() {
            true => (path, None),
            false => (
                path.parent().unwrap_or_else(|| Path::new("")),
                Some(path.to_owned()),
            ),
        };
        let config = directory.join(CONFIG);
        Ok(Self {
            directory: directory.to_owned(),
            weights,
            config: config.is_file().then_some(config),
        })
    }

    /// `config.json`; layouts without one do not ask.
    pub(super) fn config(&self) -> Result<&Path, ImportError> {
        self.config.as_deref().ok_or_else(|| ImportError::Missing {
            path: self.directory.join(CONFIG),
            advice: "it describes the network",
        })
    }

    /// The file of weights.
    pub(super) fn weights(&self) -> Result<PathBuf, ImportError> {
        match &self.weights {
            Some(path) => Ok(path.clone()),
            None => tensor_file::find(&self.directory),
        }
    }

    /// A file that has to lie in the directory.
    pub(super) fn require(&self, name: &str, advice: &'static str) -> Result<PathBuf, ImportError> {
        let path = self.directory.join(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(ImportError::Missing { path, advice }),
        }
    }
}

/// Whose `config.json` it is.
pub(super) enum Description {
    HuggingFace,
    Timm,
}

/// Looks whose it is.
pub(super) fn description(path: &Path) -> Result<Description, ImportError> {
    let config: Value = json(path)?;
    let timm_inside = config["model_type"] == "timm_wrapper";
    if config.get("architecture").is_some_and(Value::is_string) || timm_inside {
        return Ok(Description::Timm);
    }
    Ok(Description::HuggingFace)
}
