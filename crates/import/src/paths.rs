//! Where the parts of a source lie.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{ImportError, tensor_file};

pub(super) const CONFIG: &str = "config.json";

/// Paths of a source's parts: its directory, and the files of weights and configuration.
#[derive(Debug)]
pub(super) struct CheckpointPaths {
    directory: PathBuf,
    pub(super) weights: Option<PathBuf>,
    pub(super) config: Option<PathBuf>,
}

impl CheckpointPaths {
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

    pub(super) fn at(path: &Path) -> Result<Self, ImportError> {
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
