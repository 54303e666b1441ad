//! What `torch.save` wrote before version 1.6: pickles, and after them the storages, each with its
//! number of elements before it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use patchlight_onnx::tensor::Tensor;

use super::{
    MAX_PICKLE, dtype,
    pickle::{self, LegacyHeader, View},
};
use crate::{ImportError, tensor_file::TensorFile};

/// The first pickle: the number 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// An open file whose tensors are known and lie inside their storages.
#[derive(Debug)]
pub(in super::super) struct LegacyFile {
    path: PathBuf,
    file: BufReader<File>,
    tensors: BTreeMap<String, View>,
    /// Where the elements of each storage begin, by its key.
    starts: BTreeMap<String, u64>,
}

impl LegacyFile {
    /// Whether a file begins like one.
    pub(in super::super) fn is_one(start: &[u8]) -> bool {
        start.starts_with(MAGIC)
    }

    /// Reads the pickles, finds the storages and compares every tensor with the size of its own.
    pub(in super::super) fn open(path: &Path) -> Result<Self, ImportError> {
        let fail = |detail: String| ImportError::malformed(path, detail);
        let file = File::open(path).map_err(ImportError::file(path, "open it"))?;
        let mut file = BufReader::new(file);
        let mut head = Vec::new();
        file.by_ref()
            .take(MAX_PICKLE)
            .read_to_end(&mut head)
            .map_err(ImportError::file(path, "read it"))?;
        let LegacyHeader {
            tensors,
            storages,
            length,
        } = pickle::legacy(&head).map_err(fail)?;
        drop(head);

        let end = fs::metadata(path)
            .map_err(ImportError::file(path, "examine it"))?
            .len();
        let mut at = length;
        let mut starts = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for storage in storages {
            let mut count = [0; 8];
            file.seek(SeekFrom::Start(at))
                .and_then(|_| file.read_exact(&mut count))
                .map_err(ImportError::file(path, "read all of its storages"))?;
            let count = u64::from_le_bytes(count);
            let size = storage.dtype.size();
            let bytes = size.and_then(|size| count.checked_mul(size as u64));
            let start = at + 8;
            match bytes.and_then(|bytes| start.checked_add(bytes)) {
                Some(after) if after <= end => at = after,
                _ => {
                    return Err(fail(format!(
                        "storage {} is cut off or of an unknown type; copy the file again",
                        storage.key
                    )));
                }
            }
            starts.insert(storage.key.clone(), start);
            counts.insert(storage.key, count);
        }
        for (name, view) in &tensors {
            let stored = counts.get(&view.storage.key).copied().unwrap_or(0);
            if view.end().is_none_or(|end| end > stored) {
                let detail = format!(
                    "of shape {:?} takes more than the {stored} elements of its storage",
                    view.shape
                );
                return Err(ImportError::tensor(path, name, detail));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            tensors,
            starts,
        })
    }
}

impl TensorFile for LegacyFile {
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
        let dtype = dtype(view).map_err(fail)?;
        let start = self.starts.get(&view.storage.key).copied().unwrap_or(0);
        let bytes = view
            .read(&mut self.file, start, dtype.size())
            .map_err(|e| fail(format!("cannot be read: {e}")))?;
        Ok(Tensor::new(dtype, view.shape.clone(), bytes))
    }
}
