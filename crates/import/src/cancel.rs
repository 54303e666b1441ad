//! Cancels an import.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::ImportError;

/// Set from another thread; the import checks it between two constants and between two batches of
/// images.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Ends the import soon and removes what it wrote.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// If the import was cancelled.
    pub(super) fn check_cancelled(&self) -> Result<(), ImportError> {
        match self.is_cancelled() {
            true => Err(ImportError::Cancelled),
            false => Ok(()),
        }
    }
}
