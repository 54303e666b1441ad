//! How an import is ended early.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::ImportError;

/// Asked from another thread, seen by the import between two constants or two batches of
/// pictures.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the import soon; nothing of it is left.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// If the import is to end.
    pub(super) fn go_on(&self) -> Result<(), ImportError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(ImportError::Cancelled),
            false => Ok(()),
        }
    }
}
