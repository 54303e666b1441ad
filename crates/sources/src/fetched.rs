//! What a download left on this machine.

use std::path::PathBuf;

use patchlight_model::manifest::Origin;

/// What a source has become on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// What it is and where it lies.
    pub content: Content,
    /// The address and the revision that it was at.
    pub origin: Origin,
}

/// What was fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// A model directory of ours, which needs no import.
    ModelDir(PathBuf),
    /// A checkpoint's file of weights, its descriptions beside it.
    Checkpoint(PathBuf),
}
