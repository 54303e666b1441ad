//! What `torch.save` writes since version 1.6: a zip archive with a pickle, which names the
//! tensors, and one entry for each storage. Before, it wrote [pickles and storages](legacy) one after
//! the other.
//!
//! A pickle is a program. The one here is read by a [machine](pickle) that knows tensors, numbers,
//! strings and their containers, and can call nothing.

mod legacy;
mod pickle;

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use zip::{ZipArchive, read::ZipFile};

pub(super) use self::legacy::LegacyFile;
use self::pickle::{StoredType, View};
use super::TensorFile;
use crate::{
    import::ImportError,
    onnx::tensor::{Element, Tensor},
};

/// State dicts of the largest models take less than 1 MB.
const MAX_PICKLE: u64 = 16 << 20;

/// Where the file is smaller than its pickle would be, as far as one is read all the same: archives may
/// be deflated, and those of a tiny model then have a pickle larger than themselves.
const MAX_DEFLATED_PICKLE: u64 = 1 << 20;

/// An open archive whose tensors are known and lie inside their storages.
#[derive(Debug)]
pub(super) struct TorchFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// Bytes of the whole file.
    length: u64,
    /// What the entries' names begin with.
    root: String,
    tensors: BTreeMap<String, View>,
}

impl TorchFile {
    /// Reads the pickle and compares every tensor with the size of its storage.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let fail = |detail: String| ImportError::malformed(path, detail);
        let file = File::open(path).map_err(ImportError::file(path, "open it"))?;
        let length = file
            .metadata()
            .map_err(ImportError::file(path, "examine it"))?
            .len();
        let archive = ZipArchive::new(BufReader::new(file))
            .map_err(|e| fail(format!("damaged: {e}; copy it again")))?;
        let names: Vec<String> = archive
            .file_names()
            .filter_map(|name| Some(name.ok()?.into_owned()))
            .collect();
        if names.iter().any(|name| name.ends_with("/constants.pkl")) {
            return Err(fail(
                "is a TorchScript program, not a state dict; save the model's own weights with \
                 torch.save(model.state_dict(), FILE)"
                    .to_owned(),
            ));
        }
        let Some(root) = names.iter().find_map(|name| name.strip_suffix("data.pkl")) else {
            return Err(fail(
                "is a zip archive without data.pkl, so torch.save did not write it".to_owned(),
            ));
        };
        let mut this = Self {
            path: path.to_owned(),
            archive,
            length,
            root: root.to_owned(),
            tensors: BTreeMap::new(),
        };
        if names.contains(&format!("{root}byteorder")) && this.small("byteorder")? != b"little" {
            return Err(fail("was written on a big-endian machine".to_owned()));
        }
        let program = this.small("data.pkl")?;
        this.tensors =
            pickle::state_dict(&program).map_err(|why| fail(format!("data.pkl {why}")))?;
        this.check()?;
        Ok(this)
    }

    /// A whole entry that ought to be small.
    fn small(&mut self, name: &str) -> Result<Vec<u8>, ImportError> {
        let limit = self.length.clamp(MAX_DEFLATED_PICKLE, MAX_PICKLE);
        let mut bytes = Vec::new();
        let entry = self.archive.by_name(&format!("{}{name}", self.root));
        let read = entry.map_err(|e| e.to_string()).and_then(|entry| {
            entry
                .take(limit + 1)
                .read_to_end(&mut bytes)
                .map_err(|e| e.to_string())
        });
        let detail = match read {
            Ok(_) if bytes.len() as u64 <= limit => return Ok(bytes),
            Ok(_) => format!(
                "{name} has more than {limit} bytes: this is no state dict. Save tensors only: \
                 torch.save(model.state_dict(), FILE)"
            ),
            Err(why) => format!("damaged: {name}: {why}; copy it again"),
        };
        Err(ImportError::malformed(&self.path, detail))
    }

    fn check(&mut self) -> Result<(), ImportError> {
        let length = self.length;
        for (name, view) in &self.tensors {
            let fail = |detail: String| ImportError::tensor(&self.path, name, detail);
            let entry = format!("{}data/{}", self.root, view.storage.key);
            let stored = self.archive.by_name(&entry);
            let stored = stored
                .map(|entry: ZipFile<'_, _>| entry.size().min(length))
                .map_err(|e| fail(format!("has its values in {entry}, which is damaged: {e}")))?;
            let end = view
                .end()
                .ok_or_else(|| fail(format!("has an impossible shape: {:?}", view.shape)))?;
            // Of unknown types at least a byte an element; reading them is refused.
            let size = view.storage.element.size().unwrap_or(1);
            let needed = end.saturating_mul(size as u64);
            if needed > stored {
                return Err(fail(format!(
                    "takes {needed} bytes of {entry}, which has {stored}"
                )));
            }
        }
        Ok(())
    }
}

impl TensorFile for TorchFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    fn read(&mut self, name: &str) -> Result<Tensor, ImportError> {
        let fail = |detail: String| ImportError::tensor(&self.path, name, detail);
        let Some(view) = self.tensors.get(name) else {
            return Err(fail("is missing".to_owned()));
        };
        let element = element(view).map_err(fail)?;
        let unreadable = |e: &dyn Display| fail(format!("cannot be read: {e}"));
        let entry = format!("{}data/{}", self.root, view.storage.key);
        let index = self
            .archive
            .index_for_name(&entry)
            .ok_or_else(|| unreadable(&"its storage is gone"))?;
        // Inside the entry, as `check` has found.
        let mut reader = self
            .archive
            .by_index_seek(index)
            .map_err(|e| unreadable(&e))?;
        let bytes = view
            .read(&mut reader, 0, element.size())
            .map_err(|e| unreadable(&e))?;
        Ok(Tensor::new(element, view.shape.clone(), bytes))
    }
}

/// The type of a tensor's elements, if it is one that networks are imported from.
fn element(view: &View) -> Result<Element, String> {
    match &view.storage.element {
        StoredType::Float(element) => Ok(*element),
        StoredType::Other(kind) => Err(format!(
            "is of type {kind}; read are Float, Half and BFloat16"
        )),
    }
}
