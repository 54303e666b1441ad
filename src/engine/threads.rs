//! How many cores there are for us.
//!
//! ONNX Runtime counts the machine's cores and ignores the quota of a container, so the count is
//! made here and set explicitly.

use std::{num::NonZeroUsize, thread};

/// Cores this process may use: the affinity mask and the cgroup quota (both versions), rounded
/// down, at least one.
pub fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
