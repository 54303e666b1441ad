//! Why a source gives no model.

mod bucket;
mod http;
mod hub;

use std::{
    io,
    path::{Path, PathBuf},
};

use patchlight_import::ImportError;

pub use self::{bucket::BucketError, http::HttpError, hub::HubError};
use crate::AddressError;

/// Why a source gives no model. The message names the thing, what was expected, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// What was typed is no address.
    #[error("{0}")]
    Address(#[from] AddressError),

    /// The hub refuses, or does not have it.
    #[error("{0}")]
    Hub(#[from] HubError),

    /// A bucket gives no files.
    #[error("{0}")]
    Bucket(#[from] BucketError),

    /// A server cannot be reached, or does not answer as it should.
    #[error("{0}")]
    Http(#[from] HttpError),

    /// What was downloaded is not what was announced.
    #[error("{file}: {detail}; it was removed, and the next try begins anew")]
    Damaged {
        /// The file's name at the source.
        file: String,
        /// What is wrong with it.
        detail: String,
    },

    /// There is nothing at the source that can be imported.
    #[error("{source_name}: {detail}")]
    Unusable {
        /// The source.
        source_name: String,
        /// What is there, and what was expected.
        detail: String,
    },

    /// A disk has no room.
    #[error(
        "{}: {purpose} needs {needed} bytes, {free} are free there; make room or name another \
         place: --out of an import, --cache-dir, HF_HUB_CACHE for what the hub's client downloads", .directory.display()
    )]
    NoSpace {
        /// A directory of that disk.
        directory: PathBuf,
        /// What for.
        purpose: String,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },

    /// There is not enough memory.
    #[error(
        "{purpose} needs {needed} bytes of memory, {free} are free; give the process more, or import on another machine"
    )]
    NoMemory {
        /// What for.
        purpose: String,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },

    /// A file of a cache cannot be read, made or renamed.
    #[error("{}: cannot {action}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as in "cannot …".
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },

    /// There is no place for a cache.
    #[error("there is no place to keep models in: {0}")]
    NoCache(&'static str),

    /// The checkpoint cannot be imported.
    #[error("{0}")]
    Import(#[from] ImportError),

    /// It was called off.
    #[error("interrupted; what was downloaded is kept and gone on with the next time")]
    Cancelled,
}

impl SourceError {
    /// For `map_err`: the file and what was tried with it.
    pub(crate) fn file(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File {
            path,
            action,
            error,
        }
    }
}
