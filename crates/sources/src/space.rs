//! Whether there is room, asked before and not found out during.

use std::{fs, path::Path};

use crate::SourceError;

/// Kept free beside what is written: a full disk harms others, too.
const RESERVE: u64 = 64 << 20;

/// # Errors
/// If the file system of a directory that is there has less room than these bytes need.
pub(crate) fn check(directory: &Path, needed: u64, purpose: &str) -> Result<(), SourceError> {
    match free(directory) {
        // A file system that does not tell is left to say so itself.
        None => Ok(()),
        Some(free) if free >= needed.saturating_add(RESERVE) => Ok(()),
        Some(free) => Err(SourceError::NoSpace {
            directory: directory.to_owned(),
            purpose: purpose.to_owned(),
            needed,
            free,
        }),
    }
}

/// # Errors
/// If this machine, or the control group of the process, has less memory than these bytes need.
pub(crate) fn check_memory(needed: u64, purpose: &str) -> Result<(), SourceError> {
    match free_memory() {
        Some(free) if free < needed => Err(SourceError::NoMemory {
            purpose: purpose.to_owned(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

/// Bytes that this process may still take, where the system says so.
fn free_memory() -> Option<u64> {
    let number = |path: &str| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let information = fs::read_to_string("/proc/meminfo").ok()?;
    let available = information.lines().find_map(|line| {
        let kib = line
            .strip_prefix("MemAvailable:")?
            .trim()
            .strip_suffix(" kB")?;
        Some(kib.parse::<u64>().ok()? << 10)
    })?;
    // Of a control group, as containers have one; memory that only caches files counts as used
    // there and is given back when needed, so it is not counted.
    let of_group = || {
        let limit = number("/sys/fs/cgroup/memory.max")?;
        let statistics = fs::read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
        let held = statistics
            .lines()
            .find_map(|line| line.strip_prefix("anon "))?;
        Some(limit.saturating_sub(held.trim().parse().ok()?))
    };
    Some(of_group().map_or(available, |of_group| available.min(of_group)))
}

/// Bytes that this process may still write there.
fn free(directory: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(directory).ok()?;
        // Some network file systems count nothing.
        (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn more_memory_than_any_machine_has_is_refused() {
        assert!(check_memory(1, "the test").is_ok());
        let message = check_memory(u64::MAX, "the test").unwrap_err().to_string();
        assert!(message.contains("the test"), "{message}");
    }

    #[test]
    fn what_fits_nowhere_is_refused_with_both_figures() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path(), 1, "the test").is_ok());
        let error = check(folder.path(), u64::MAX, "the test").unwrap_err();
        let message = error.to_string();
        assert!(message.contains("the test"), "{message}");
        assert!(message.contains("free"), "{message}");
    }
}
