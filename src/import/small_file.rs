//! Files of text beside the weights, which are read whole.

use std::{fs::File, io::Read, path::Path};

use serde::de::DeserializeOwned;

use super::ImportError;

/// Bytes of a description, an index or a list of labels. ImageNet-21k's labels, twice in a
/// `config.json`, take 3 MB; what is parsed takes many times its size in memory.
const MAX_BYTES: u64 = 16 << 20;

/// The bytes of a file.
///
/// # Errors
/// If it cannot be read, or is too large to be what it is named for.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, ImportError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(ImportError::file(path, "read it"))?;
    if bytes.len() as u64 > MAX_BYTES {
        let detail = format!("has more than {MAX_BYTES} bytes, which no description needs");
        return Err(ImportError::malformed(path, detail));
    }
    Ok(bytes)
}

/// The same as text.
pub(super) fn text(path: &Path) -> Result<String, ImportError> {
    String::from_utf8(bytes(path)?).map_err(|e| {
        let detail = format!("is no UTF-8 text: {}", e.utf8_error());
        ImportError::malformed(path, detail)
    })
}

/// The value that a JSON file holds.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
    serde_json::from_slice(&bytes(path)?).map_err(|e| ImportError::malformed(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_limit_is_refused_without_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        // A hole: nobody can hold it in memory.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let message = bytes(&path).unwrap_err().to_string();
        assert!(message.contains("config.json"), "{message}");
        assert!(message.contains("more than 16777216 bytes"), "{message}");
    }
}
