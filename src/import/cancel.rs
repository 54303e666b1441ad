//! How an import is ended early.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Asked from another thread, seen by the import between two constants.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the import soon; nothing of it is left.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
