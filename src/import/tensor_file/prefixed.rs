//! Files whose tensors have a wrapper's name before their own.
//!
//! torch's `DataParallel` and `torch.compile`, Lightning and every class that keeps the network in one of
//! its fields put a name before all of the network's. Which one it is, one tensor that every network of
//! the layout has tells: what stands before its name there stands before all others, too.

use std::path::{Path, PathBuf};

use super::TensorFile;
use crate::{
    import::{ImportError, error::quoted},
    onnx::tensor::Tensor,
};

/// What was left out of the tensors' names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stripped {
    /// What stood before the network's own names.
    pub prefix: String,
    /// Tensors without it, which are none of the network's.
    pub others: usize,
    /// One of them.
    pub other: Option<String>,
}

/// The file as the layout knows its names. `anchor` is the name of a tensor that every network of the
/// layout has once.
///
/// # Errors
/// If no tensor has that name, with or without something before it, or several have it.
pub(in crate::import) fn by_anchor(
    file: Box<dyn TensorFile>,
    anchor: &str,
) -> Result<Box<dyn TensorFile>, ImportError> {
    let names = file.names();
    let mut prefixes = names.iter().filter_map(|name| prefix(name, anchor));
    let (first, second) = (prefixes.next(), prefixes.next());
    if file.shape(anchor).is_some() {
        return Ok(file);
    }
    match (first, second) {
        (None, _) => Err(file.missing(anchor, "every network of this layout has it")),
        (Some(first), Some(second)) => {
            let detail = format!(
                "is there several times, below `{}` and `{}`; save the network that is to be imported \
                 alone",
                quoted(first),
                quoted(second)
            );
            Err(ImportError::tensor(file.path(), anchor, detail))
        }
        (Some(prefix), None) => {
            let mut others = names.iter().filter(|name| !name.starts_with(prefix));
            let stripped = Stripped {
                prefix: prefix.to_owned(),
                other: others.next().cloned(),
                others: names.iter().filter(|n| !n.starts_with(prefix)).count(),
            };
            Ok(Box::new(Prefixed {
                inner: file,
                stripped,
            }))
        }
    }
}

/// Whether a tensor has this name, with or without something before it.
pub(in crate::import) fn has(file: &dyn TensorFile, name: &str) -> bool {
    let names = file.names();
    names.iter().any(|found| prefix(found, name).is_some())
}

/// What stands before `own` in a name: nothing, or whole parts of it.
fn prefix<'n>(name: &'n str, own: &str) -> Option<&'n str> {
    let before = name.strip_suffix(own)?;
    (before.is_empty() || before.ends_with(['.', '/'])).then_some(before)
}

#[derive(Debug)]
struct Prefixed {
    inner: Box<dyn TensorFile>,
    stripped: Stripped,
}

impl Prefixed {
    fn whole(&self, name: &str) -> String {
        format!("{}{name}", self.stripped.prefix)
    }
}

impl TensorFile for Prefixed {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn names(&self) -> Vec<String> {
        let names = self.inner.names().into_iter();
        let own = |name: String| name.strip_prefix(&self.stripped.prefix).map(str::to_owned);
        names.filter_map(own).collect()
    }

    fn stored_names(&self) -> Vec<String> {
        self.inner.stored_names()
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

    fn stripped(&self) -> Option<&Stripped> {
        Some(&self.stripped)
    }
}
