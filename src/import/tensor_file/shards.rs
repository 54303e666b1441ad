//! Several files of tensors with an index, as Hugging Face splits large checkpoints.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{TensorFile, open_single};
use crate::{
    import::{ImportError, small_file},
    onnx::tensor::Tensor,
};

/// All shards of a checkpoint, opened.
#[derive(Debug)]
pub(super) struct Shards {
    index: PathBuf,
    shards: Vec<Box<dyn TensorFile>>,
    shard_of: BTreeMap<String, usize>,
}

/// `*.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// Opens every shard and checks that each holds what the index says.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let index: Index = small_file::json(path)?;
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        let mut shards: Vec<Box<dyn TensorFile>> = Vec::new();
        let mut opened = BTreeMap::new();
        let mut shard_of = BTreeMap::new();
        for (tensor, file) in index.weight_map {
            let at = match opened.get(&file) {
                Some(&at) => at,
                None => {
                    shards.push(open_single(&shard(path, directory, &file)?)?);
                    opened.insert(file.clone(), shards.len() - 1);
                    shards.len() - 1
                }
            };
            if shards[at].shape(&tensor).is_none() {
                let detail = format!("is not in {file}, where the index says it is");
                return Err(ImportError::tensor(path, &tensor, detail));
            }
            shard_of.insert(tensor, at);
        }
        Ok(Self {
            index: path.to_owned(),
            shards,
            shard_of,
        })
    }
}

/// A shard lies beside its index: a name with a path in it would lead elsewhere.
fn shard(index: &Path, directory: &Path, name: &str) -> Result<PathBuf, ImportError> {
    if Path::new(name).file_name().is_none_or(|only| only != name) {
        let detail = format!("names the shard \"{name}\"; a file beside the index is expected");
        return Err(ImportError::field(index, "weight_map", detail));
    }
    let path = directory.join(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(ImportError::Missing {
            path,
            advice: "the index lists it as a part of the weights; download it, too",
        }),
    }
}

impl TensorFile for Shards {
    fn path(&self) -> &Path {
        &self.index
    }

    fn names(&self) -> Vec<String> {
        self.shard_of.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shards[*self.shard_of.get(name)?].shape(name)
    }

    fn read(&mut self, name: &str) -> Result<Tensor, ImportError> {
        match self.shard_of.get(name) {
            Some(&at) => self.shards[at].read(name),
            None => Err(ImportError::tensor(&self.index, name, "is missing")),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let shards = self.shards.iter().flat_map(|shard| shard.files());
        std::iter::once(self.index.clone()).chain(shards).collect()
    }
}
