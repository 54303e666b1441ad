//! How many cores there are for us, and how they may be used.
//!
//! ONNX Runtime counts the machine's cores and ignores the quota of a container, so both are
//! settled here and set explicitly.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

/// Where control groups are mounted: version 2, and version 1's controller of the CPU.
const GROUPS: &str = "/sys/fs/cgroup";
const CPU_GROUPS: &str = "/sys/fs/cgroup/cpu";

/// Cores this process may use: the affinity mask and the cgroup quota (both versions), rounded
/// down, at least one.
pub fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Whether threads that compute may spin for a moment before they sleep.
///
/// Between the many short operators of a small model that saves a quarter of the time of a single
/// image. Under a CPU quota it spends what the next image would need, until the kernel stops
/// the whole container for the rest of the period.
pub fn may_spin() -> bool {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    !quota_files(&groups)
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|text| is_quota(&text)))
}

/// The files that can hold a quota for a process with this `/proc/self/cgroup`: those of its group
/// and of all above it. Inside a container its own group is usually the root of what it sees.
fn quota_files(groups: &str) -> Vec<PathBuf> {
    let files = |mount: &str, group: &str, file: &str| -> Vec<PathBuf> {
        let group = Path::new(mount).join(group.trim_start_matches('/'));
        let above = group.ancestors();
        let above = above.take_while(|folder| folder.starts_with(mount));
        above.map(|folder| folder.join(file)).collect()
    };
    let mut found = Vec::new();
    for line in groups.lines() {
        // `0::/path` is version 2, `4:cpu,cpuacct:/path` version 1 (cgroups(7)).
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        match controllers {
            "" => found.extend(files(GROUPS, group, "cpu.max")),
            many if many.split(',').any(|one| one == "cpu") => {
                found.extend(files(CPU_GROUPS, group, "cpu.cfs_quota_us"));
            }
            _ => {}
        }
    }
    found
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

    fn paths(groups: &str) -> Vec<String> {
        let paths = quota_files(groups).into_iter();
        paths.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_quota_is_looked_for_in_the_process_s_group_and_above_it() {
        assert_eq!(
            paths("0::/system.slice/patchlight.service\n"),
            [
                "/sys/fs/cgroup/system.slice/patchlight.service/cpu.max",
                "/sys/fs/cgroup/system.slice/cpu.max",
                "/sys/fs/cgroup/cpu.max"
            ]
        );
        assert_eq!(
            paths("9:memory:/pod\n4:cpu,cpuacct:/pod\n3:cpuset:/\n0::/\n"),
            [
                "/sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                "/sys/fs/cgroup/cpu.max"
            ]
        );
    }

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
