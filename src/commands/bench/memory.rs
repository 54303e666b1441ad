//! What the process holds, where the system tells (Linux).

use std::fs;

use patchlight_model::ModelInfo;
use serde::Serialize;

/// Memory beside the weights.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Memory {
    /// Bytes of the graph's files: what weights take if they are held once.
    pub(super) weight_bytes: u64,
    /// Resident when all sessions were loaded and one had run.
    pub(super) loaded_bytes: u64,
    /// The most that was resident.
    pub(super) peak_bytes: u64,
}

impl Memory {
    /// As it is now; `None` where the system does not tell.
    pub(super) fn read(model: &ModelInfo) -> Option<Self> {
        let graph = &model.manifest.graph.file;
        let of_graph = model
            .manifest
            .files
            .keys()
            .filter(|name| name.starts_with(graph));
        let size = |name: &String| fs::metadata(model.directory.join(name)).map(|file| file.len());
        Some(Self {
            weight_bytes: of_graph.map(size).sum::<Result<u64, _>>().ok()?,
            loaded_bytes: status("VmRSS")?,
            peak_bytes: peak_bytes()?,
        })
    }

    /// With the peak as it is now.
    pub(super) fn with_peak(self) -> Self {
        let peak_bytes = peak_bytes().unwrap_or(self.peak_bytes);
        Self { peak_bytes, ..self }
    }
}

/// The most memory that was ever resident.
pub(super) fn peak_bytes() -> Option<u64> {
    status("VmHWM")
}

fn status(field: &str) -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, field)
        .map(|kilobytes| kilobytes * 1024)
}

/// A line such as `VmHWM:     1234 kB` of `/proc/self/status` (proc_pid_status(5)).
fn kilobytes(status: &str, field: &str) -> Option<u64> {
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmHWMore:\t 1 kB\nVmHWM:\t  1234 kB\nThreads:\t5\n";
        assert_eq!(kilobytes(status, "VmHWM"), Some(1234));
        assert_eq!(kilobytes(status, "Threads"), None);
        assert_eq!(kilobytes(status, "VmRSS"), None);
    }
}
