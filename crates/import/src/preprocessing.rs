//! Where the preprocessing comes from.

pub(super) mod presets;
pub(super) mod pretrained_cfg;
pub(super) mod processor;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
};

use patchlight_imaging::preprocess::Preprocess;
use serde::Deserialize;

use super::{
    ImportError, ImportOptions, paths::CheckpointPaths, small_file, tensor_file::named_digest,
};

/// A description of the preprocessing other than the checkpoint's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PreprocessSource {
    /// `preprocessor_config.json` beside the weights.
    HuggingFace,
    /// `pretrained_cfg` in the `config.json` beside the weights.
    Timm,
    /// One of torchvision's presets, such as `vit_l_16` or `vit_b_16:swag_linear`.
    TorchVision(String),
    /// A `preprocessor_config.json`, or a TOML file with the table `[preprocess]` of a
    /// `model.toml`.
    File(PathBuf),
}

impl FromStr for PreprocessSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.strip_prefix("torchvision:")) {
            ("hf", _) => Self::HuggingFace,
            ("timm", _) => Self::Timm,
            (_, Some(preset)) => Self::TorchVision(preset.to_owned()),
            _ => Self::File(text.into()),
        })
    }
}

/// SHA-256 of files, by name.
pub(super) type Digests = BTreeMap<String, String>;

/// What was asked for, or else the checkpoint's own, with the digest of the file it stands in.
pub(super) fn of(
    paths: &CheckpointPaths,
    options: &ImportOptions,
    own: impl FnOnce() -> Result<(Preprocess, Option<PathBuf>), ImportError>,
) -> Result<(Preprocess, Digests), ImportError> {
    const ADVICE: &str = "--preprocess names it";
    let choice = || processor::Choice::new(options.resize, paths.config().ok());
    let (mut preprocess, path) = match &options.preprocess {
        None => own()?,
        Some(PreprocessSource::HuggingFace) => {
            let path = processor::find(paths)?;
            (processor::any_size(&path, choice()?)?, Some(path))
        }
        Some(PreprocessSource::Timm) => {
            let path = paths.require("config.json", ADVICE)?;
            (pretrained_cfg::of_file(&path)?, Some(path))
        }
        Some(PreprocessSource::TorchVision(name)) => (presets::preset(name)?, None),
        Some(PreprocessSource::File(path)) => {
            // Another checkpoint's file may be older or newer than this one's.
            let choice = processor::Choice::new(options.resize, None)?;
            (from_file(path, choice)?, Some(path.clone()))
        }
    };
    if let Some(backend) = options.resize {
        preprocess.backend = backend;
    }
    let digests = match path {
        Some(path) => Digests::from([named_digest(&path)?]),
        None => Digests::new(),
    };
    Ok((preprocess, digests))
}

/// A file that the user names.
fn from_file(path: &Path, choice: processor::Choice) -> Result<Preprocess, ImportError> {
    #[derive(Deserialize)]
    struct Table {
        preprocess: Preprocess,
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        return processor::any_size(path, choice);
    }
    let text = small_file::text(path)?;
    let table: Table = toml::from_str(&text).map_err(|e| {
        let detail = format!(
            "a table [preprocess] as in model.toml is expected, or a preprocessor_config.json: {e}"
        );
        ImportError::malformed(path, detail)
    })?;
    if let Err(errors) = table.preprocess.validate() {
        return Err(ImportError::malformed(path, errors.join("; ")));
    }
    Ok(table.preprocess)
}
