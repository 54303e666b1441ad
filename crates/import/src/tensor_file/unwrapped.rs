//! Files whose tensors all have a wrapper's name before their own.

use std::path::{Path, PathBuf};

use patchlight_onnx::tensor::Tensor;

use super::TensorFile;
use crate::ImportError;

/// What wrappers of a whole model put before every name: torch's `DataParallel`, `torch.compile`,
/// and transformers' wrapper of timm.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "timm_model."];

/// The same file without the wrappers' names.
pub(super) fn unwrapped(file: Box<dyn TensorFile>) -> Box<dyn TensorFile> {
    let names = file.names();
    let wraps = |wrapper: &&str| names.iter().all(|name| name.starts_with(*wrapper));
    match WRAPPERS.into_iter().find(wraps) {
        Some(wrapper) if !names.is_empty() => unwrapped(Box::new(Unwrapped {
            inner: file,
            wrapper,
        })),
        _ => file,
    }
}

#[derive(Debug)]
struct Unwrapped {
    inner: Box<dyn TensorFile>,
    wrapper: &'static str,
}

impl Unwrapped {
    fn whole(&self, name: &str) -> String {
        format!("{}{name}", self.wrapper)
    }
}

impl TensorFile for Unwrapped {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn names(&self) -> Vec<String> {
        let names = self.inner.names().into_iter();
        let own = |name: String| name.strip_prefix(self.wrapper).map(str::to_owned);
        names.filter_map(own).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.inner.shape(&self.whole(name))
    }

    fn read(&mut self, name: &str) -> Result<Tensor, ImportError> {
        let whole = self.whole(name);
        self.inner.read(&whole)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.inner.files()
    }
}
