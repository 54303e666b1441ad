//! How many cores there are for us, and how they may be used.
//!
//! ONNX Runtime counts the machine's cores and ignores the quota of a container, so both are
//! settled here and set explicitly.

use std::{fs, num::NonZeroUsize, thread};

/// Where the kernel tells a container's CPU quota: cgroup version 2, then 1.
const QUOTA_FILES: [&str; 2] = [
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
];

/// Cores this process may use: the affinity mask and the cgroup quota (both versions), rounded
/// down, at least one.
pub fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Whether threads that compute may spin for a moment before they sleep.
///
/// Between the many short operators of a small model that saves a quarter of the time of a single
/// picture. Under a CPU quota it spends what the next picture would need, until the kernel stops
/// the whole container for the rest of the period.
pub fn may_spin() -> bool {
    !QUOTA_FILES
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|text| is_quota(&text)))
}

/// Reads `max 100000` or `200000 100000` (version 2), `-1` or `200000` (version 1).
fn is_quota(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or("max");
    first
        .parse::<i64>()
        .is_ok_and(|microseconds| microseconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlimited_is_no_quota() {
        for text in ["max 100000\n", "-1\n", ""] {
            assert!(!is_quota(text), "{text:?}");
        }
    }

    #[test]
    fn microseconds_a_period_are_a_quota() {
        for text in ["200000 100000\n", "50000\n"] {
            assert!(is_quota(text), "{text:?}");
        }
    }
}
