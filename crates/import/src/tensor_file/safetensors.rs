//! A `.safetensors` file, read tensor by tensor.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use patchlight_onnx::tensor::{DType, Tensor};
use safetensors::{Dtype, tensor::Metadata};

use super::TensorFile;
use crate::ImportError;

/// Bytes of a header; a tensor takes about 150. The format's own limit is 100 MB, which would take
/// ten times as much in memory.
const MAX_HEADER: u64 = 16 << 20;

/// An open file whose header is known and valid.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

impl SafetensorsFile {
    /// Reads the header and checks it against the file's length.
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        let mut file = File::open(path).map_err(ImportError::file(path, "open it"))?;
        let length = file
            .metadata()
            .map_err(ImportError::file(path, "examine it"))?
            .len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix)
            .map_err(ImportError::file(path, "read its header"))?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > MAX_HEADER.min(length) {
            let detail = format!(
                "not a safetensors file: a header of {header_length} bytes, where at most \
                 {MAX_HEADER} are read"
            );
            return Err(ImportError::malformed(path, detail));
        }
        let mut header = Vec::new();
        Read::by_ref(&mut file)
            .take(header_length)
            .read_to_end(&mut header)
            .map_err(ImportError::file(path, "read its header"))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| ImportError::malformed(path, format!("its header is damaged: {e}")))?;
        let data_start = 8 + header_length;
        let data = metadata.data_len() as u64;
        if data_start.checked_add(data) != Some(length) {
            let detail = format!(
                "{length} bytes long, but its header of {header_length} tells of {data} more; copy it \
                 again"
            );
            return Err(ImportError::malformed(path, detail));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            data_start,
        })
    }

    /// A text that its header holds beside the tensors.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata.metadata().as_ref()?;
        notes.get(key).map(String::as_str)
    }
}

impl TensorFile for SafetensorsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.metadata.info(name)?.shape)
    }

    fn read(&mut self, name: &str) -> Result<Tensor, ImportError> {
        let Some(info) = self.metadata.info(name) else {
            return Err(ImportError::tensor(&self.path, name, "is missing"));
        };
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::Bf16,
            other => {
                let detail = format!("is of type {other:?}; read are F32, F16 and BF16");
                return Err(ImportError::tensor(&self.path, name, detail));
            }
        };
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(ImportError::file(&self.path, "read it"))?;
        Ok(Tensor::new(dtype, info.shape.clone(), bytes))
    }
}
