//! Why a checkpoint cannot become a model directory.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

use patchlight_engine::EngineError;

/// Why a checkpoint cannot become a model directory. The message names the file, tensor or field,
/// what was expected, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file cannot be read, made or renamed.
    #[error("{}: cannot {action}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as in "cannot …".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },

    /// A file that every checkpoint of the layout has is not there.
    #[error("{} is missing: {advice}", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where it comes from, or what to do.
        advice: &'static str,
    },

    /// A file does not have the form that it should.
    #[error("{}: {detail}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },

    /// A field has a value that this program does not know, or lacks one.
    #[error("{}: `{field}` {detail}", .path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it is, what was expected, what to do.
        detail: String,
    },

    /// A tensor is missing, unexpected, or has another shape or type.
    #[error("{}: tensor `{name}` {detail}", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What it is, what was expected.
        detail: String,
    },

    /// The labels do not fit the classes.
    #[error("{0}")]
    Labels(String),

    /// The preprocessing cannot be told, or does not fit the network.
    #[error("preprocessing: {0}")]
    Preprocess(String),

    /// The directory to be made holds something that is not a model of ours.
    #[error("{}: {detail}", .path.display())]
    Out {
        /// The directory.
        path: PathBuf,
        /// What is in the way.
        detail: String,
    },

    /// Embeddings of texts do not fit the source.
    #[error("--text-embeddings {}: {detail}", .path.display())]
    TextEmbeddings {
        /// The file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },

    /// What an exported graph attends to is not known for sure.
    #[error(
        "{}: no sure attention map: {detail}. With --without-map it is imported to serve labels only",
        .path.display()
    )]
    Map {
        /// The graph.
        path: PathBuf,
        /// What was found, and what was expected.
        detail: String,
    },

    /// The runtime cannot be loaded, or does not take a graph.
    #[error("{0}")]
    Engine(#[from] EngineError),

    /// The import was ended early.
    #[error("interrupted; nothing was written")]
    Cancelled,

    /// The comparison with the float32 graph cannot be made, or does not come out as asked.
    #[error("check: {0}")]
    Check(String),

    /// The graph cannot be written.
    #[error("cannot write the graph: {0}")]
    Graph(#[from] io::Error),
}

impl ImportError {
    /// For `map_err`: the file and what was tried with it.
    pub(super) fn file(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            path,
            action,
            source,
        }
    }

    pub(super) fn malformed(path: &Path, detail: impl ToString) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            detail: cut(&detail.to_string(), MAX_DETAIL).into_owned(),
        }
    }

    pub(super) fn text_embeddings(path: &Path, detail: impl Into<String>) -> Self {
        Self::TextEmbeddings {
            path: path.to_owned(),
            detail: cut(&detail.into(), MAX_DETAIL).into_owned(),
        }
    }

    pub(super) fn field(path: &Path, field: &'static str, detail: impl Into<String>) -> Self {
        Self::Field {
            path: path.to_owned(),
            field,
            detail: cut(&detail.into(), MAX_DETAIL).into_owned(),
        }
    }

    pub(super) fn tensor(path: &Path, name: &str, detail: impl Into<String>) -> Self {
        Self::Tensor {
            path: path.to_owned(),
            name: quoted(name).into_owned(),
            detail: cut(&detail.into(), MAX_DETAIL).into_owned(),
        }
    }
}

/// Characters of a name or value out of a file that a message shows.
const MAX_QUOTED: usize = 100;

/// Characters of what a message says is wrong: parsers quote values, too.
const MAX_DETAIL: usize = 1000;

/// A name or value out of a file, as a message shows it: cut, and without characters that would
/// steer a terminal.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    cut(text, MAX_QUOTED)
}

fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    let end = text.char_indices().nth(limit).map(|(at, _)| at);
    if end.is_none() && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for character in text[..end.unwrap_or(text.len())].chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    if end.is_some() {
        shown.push('…');
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_cut_and_steers_no_terminal() {
        assert_eq!(quoted("vit.cls"), "vit.cls");
        assert_eq!(quoted(&"é".repeat(100)), "é".repeat(100));
        assert_eq!(quoted(&"é".repeat(101)), format!("{}…", "é".repeat(100)));
        assert_eq!(quoted("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        let path = Path::new("model.safetensors");
        let error = ImportError::tensor(path, &"x".repeat(1 << 20), "y".repeat(1 << 20));
        assert!(error.to_string().chars().count() < 1200);
    }
}
