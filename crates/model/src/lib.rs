//! A model directory: what it says of itself, its labels, and whether its files are whole.
//!
//! ```text
//! model.toml        the manifest
//! model.onnx        the graph (with model.onnx.data beside it when large)
//! labels.txt        one label a line, UTF-8
//! ```

pub mod calibration;
mod descriptor;
mod digest;
pub mod labels;
pub mod manifest;
pub mod scores;
mod task;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use self::{
    descriptor::ModelDescriptor,
    digest::sha256_of_file,
    labels::{LabelError, Labels},
    manifest::Manifest,
    scores::Prediction,
};

/// The manifest's file name.
pub const MANIFEST: &str = "model.toml";

/// The labels' file name.
pub const LABELS: &str = "labels.txt";

/// Everything about a model except its weights.
#[derive(Debug)]
pub struct ModelInfo {
    /// What clients call it: the directory's name.
    pub name: String,
    /// Where it lies.
    pub directory: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Height and width of the input tensor, in pixels.
    pub input_size: (usize, usize),
    /// One per class.
    pub labels: Labels,
    /// SHA-256 of the manifest, which holds the digests of all other files: it names the whole.
    pub digest: String,
}

/// Why a model directory is refused.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },

    /// The manifest is not what this version understands.
    #[error("{}: {error}", .path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },

    /// A file is not the one that was imported.
    #[error(
        "{}: its SHA-256 is {found}, the manifest says {expected}; the file was changed or is \
         incomplete. Copy it again or import the model again", .path.display()
    )]
    Digest {
        /// Which.
        path: PathBuf,
        /// What was computed now.
        found: String,
        /// What was written at import.
        expected: String,
    },
}

impl ModelInfo {
    /// Reads and verifies a model directory: the manifest's own consistency, every file's digest,
    /// the number of labels.
    ///
    /// # Errors
    /// The first thing that differs, by name.
    pub fn open(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join(MANIFEST);
        let read = |path: &Path| {
            fs::read(path).map_err(|error| ModelError::Read {
                path: path.to_owned(),
                error,
            })
        };
        let refuse = |path: &Path, error: String| ModelError::Manifest {
            path: path.to_owned(),
            error,
        };

        let bytes = read(&path)?;
        let text = str::from_utf8(&bytes).map_err(|error| refuse(&path, error.to_string()))?;
        let manifest: Manifest =
            toml::from_str(text).map_err(|error| refuse(&path, error.to_string()))?;
        manifest
            .validate()
            .map_err(|errors| refuse(&path, errors.join("; ")))?;
        let input_size = manifest.input_size().ok_or_else(|| {
            let error = "preprocess does not fix the size of the input; a crop is missing";
            refuse(&path, error.to_owned())
        })?;

        for (name, expected) in &manifest.files {
            let path = directory.join(name);
            let found = sha256_of_file(&path).map_err(|error| ModelError::Read {
                path: path.clone(),
                error,
            })?;
            if found != *expected {
                return Err(ModelError::Digest {
                    path,
                    found,
                    expected: expected.clone(),
                });
            }
        }

        let path = directory.join(LABELS);
        let labels = Labels::parse(&read(&path)?)
            .and_then(|labels| labels.with_multiline(&manifest.task.whole_labels))
            .and_then(|labels| labels.for_classes(manifest.task.classes))
            .map_err(|error| refuse(&path, error.to_string()))?;
        Ok(Self {
            name: name_of(directory),
            directory: directory.to_owned(),
            digest: digest::sha256(&bytes),
            manifest,
            input_size,
            labels,
        })
    }

    /// Enough of the digest to recognise the model by.
    pub fn short_digest(&self) -> &str {
        self.digest.get(..12).unwrap_or(&self.digest)
    }

    /// The graph's file.
    pub fn graph(&self) -> PathBuf {
        self.directory.join(&self.manifest.graph.file)
    }
}

/// A model is called by its directory's name, also when it was given as `.` or through a link.
pub fn name_of(directory: &Path) -> String {
    let whole = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let name = directory.file_name().or_else(|| whole.file_name());
    name.map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests;
