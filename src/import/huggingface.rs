//! A directory as Hugging Face's `save_pretrained` writes it for `ViTForImageClassification`:
//! `config.json`, `preprocessor_config.json`, `model.safetensors`.

mod config;
mod processor;
mod weights;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use self::{config::Config, weights::HuggingFaceWeights};
use super::{
    Checkpoint, ImportError,
    tensor_file::{SafetensorsFile, digest},
};
use crate::model::manifest::HeadFusion;

const CONFIG: &str = "config.json";
const PROCESSOR: &str = "preprocessor_config.json";
const WEIGHTS: &str = "model.safetensors";

/// Opens the directory and checks that everything is there and understood; tensors' values are
/// read later. `labels` take the place of the checkpoint's.
pub(super) fn open(
    directory: &Path,
    head_fusion: HeadFusion,
    labels: Option<Vec<String>>,
) -> Result<Checkpoint, ImportError> {
    let config_path = require(
        directory,
        CONFIG,
        "it tells the network's size; every checkpoint on the Hub has one",
    )?;
    let processor_path = require(
        directory,
        PROCESSOR,
        "it tells how pictures are resized and normalised, which cannot be guessed; \
         take the one from the model's page, or write it with ViTImageProcessor(…).save_pretrained(DIRECTORY)",
    )?;
    let weights_path = require(
        directory,
        WEIGHTS,
        "write it with model.save_pretrained(DIRECTORY, max_shard_size=\"50GB\"), which also converts pytorch_model.bin and joins shards",
    )?;

    let config: Config = json(&config_path)?;
    let file = SafetensorsFile::open(&weights_path)?;
    let classes = weights::classes(&file)?;
    let spec = config.spec(&config_path, classes, head_fusion)?;
    let preprocess = processor::read(&processor_path, spec.image)?;
    weights::check_names(&file, &spec)?;

    let mut source_files = BTreeMap::new();
    for path in [&config_path, &processor_path, &weights_path] {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        source_files.insert(name, digest(path)?);
    }
    Ok(Checkpoint {
        labels: match labels {
            Some(labels) => labels,
            None => config.labels(&config_path, classes)?,
        },
        task: config.task(&config_path)?,
        weights: Box::new(HuggingFaceWeights::new(file, spec.clone())),
        spec,
        caution: None,
        preprocess,
        source: "huggingface",
        source_files,
    })
}

fn require(directory: &Path, name: &str, advice: &'static str) -> Result<PathBuf, ImportError> {
    let path = directory.join(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(ImportError::Missing { path, advice }),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
    let text = fs::read(path).map_err(ImportError::file(path, "read it"))?;
    serde_json::from_slice(&text).map_err(|e| ImportError::malformed(path, e))
}
