//! How much memory the container may use.

use std::fs;

/// Where the kernel tells a container's memory limit: cgroup version 2, then 1.
const FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Version 1 says "no limit" with the largest number of whole pages; no machine has an exbibyte.
const NO_LIMIT: u64 = 1 << 60;

/// The limit in bytes; `None` where there is none.
pub(super) fn limit() -> Option<u64> {
    FILES
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .and_then(|text| read(&text))
}

/// Reads `max` or `2147483648` (version 2), `9223372036854771712` or `2147483648` (version 1).
fn read(text: &str) -> Option<u64> {
    let bytes = text.trim().parse().ok()?;
    (bytes < NO_LIMIT).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_of_bytes() {
        assert_eq!(read("2147483648\n"), Some(2_147_483_648));
    }

    #[test]
    fn unlimited_is_no_limit_in_either_version() {
        for text in ["max\n", "9223372036854771712\n", ""] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
