//! Finding, loading and describing the ONNX Runtime library.
//!
//! The library is opened at run time. Looked at, in this order: `ORT_DYLIB_PATH`, the folder of
//! the executable, `../lib` beside it, and the place where the build unpacked the pinned version
//! (`crates/engine/onnxruntime.toml`).

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ort::{environment::Environment, logging::LogLevel};

use super::EngineError;

/// The oldest minor version of ONNX Runtime 1.x that speaks the C API this program is built for.
pub const MINIMUM_MINOR: u32 = 24;

/// Where the build left the pinned library.
const BUILT_WITH: &str = env!("PATCHLIGHT_ORT_DYLIB");

/// The loaded library and the one environment of this process.
///
/// ONNX Runtime allows a single environment per process, ever; `main` makes it and every session
/// holds on to it.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    library: Arc<Path>,
    version: Arc<str>,
}

impl Runtime {
    /// Loads the library from the first place that has it.
    ///
    /// # Errors
    /// [`EngineError::Library`] when no candidate can be loaded, naming them all.
    pub fn load() -> Result<Self, EngineError> {
        let candidates = candidates();
        let Some(library) = candidates.iter().find(|path| path.is_file()) else {
            return Err(library_error("no such file", &candidates));
        };
        let Some(minor) = ort::util::probe(library) else {
            return Err(library_error("not an ONNX Runtime library", &candidates));
        };
        if minor < MINIMUM_MINOR {
            return Err(library_error(
                &format!("it is version 1.{minor}, too old"),
                &candidates,
            ));
        }
        let environment = ort::init_from(library)
            .map_err(|error| library_error(&error.to_string(), &candidates))?
            .with_name("patchlight")
            .with_telemetry(false)
            .build()?;
        environment.set_log_level(LogLevel::Warning);
        Ok(Self {
            environment,
            version: version_of(library, minor).into(),
            library: library.as_path().into(),
        })
    }

    /// The version as the library's name or its interface tells it, such as `1.31.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file that was loaded.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What sessions are made in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        // A file that is named is meant: no other is tried.
        return vec![path.into()];
    }
    let mut found = Vec::new();
    if let Some(folder) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        found.extend(libraries_in(folder));
        found.extend(libraries_in(&folder.join("../lib")));
    }
    found.push(BUILT_WITH.into());
    found
}

/// Files in `folder` that are named like the library, newest name first: packages carry
/// `libonnxruntime.so.1.31.1` without the unversioned link that linkers look for.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.starts_with("libonnxruntime.")
                && (name.contains(".so") || name.ends_with(".dylib"))
        })
        .collect();
    paths.sort_unstable_by(|a, b| b.cmp(a));
    paths
}

/// The C API tells the minor version only; packages put the whole of it into the file's name.
fn version_of(library: &Path, minor: u32) -> String {
    let fallback = format!("1.{minor}");
    let name = fs::canonicalize(library)
        .ok()
        .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .unwrap_or_default();
    let version: String = name
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let version = version.trim_end_matches('.');
    if version.starts_with(&fallback) {
        version.to_owned()
    } else {
        fallback
    }
}

fn library_error(error: &str, candidates: &[PathBuf]) -> EngineError {
    EngineError::Library {
        error: error.to_owned(),
        looked_at: candidates
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_comes_from_a_versioned_file_name() {
        let folder = tempfile::tempdir().unwrap();
        let linux = folder.path().join("libonnxruntime.so.1.31.1");
        let mac = folder.path().join("libonnxruntime.1.31.1.dylib");
        let plain = folder.path().join("libonnxruntime.so");
        for path in [&linux, &mac, &plain] {
            fs::write(path, b"").unwrap();
        }
        assert_eq!(version_of(&linux, 31), "1.31.1");
        assert_eq!(version_of(&mac, 31), "1.31.1");
        assert_eq!(version_of(&plain, 31), "1.31");
    }

    #[test]
    fn version_does_not_believe_a_name_that_contradicts_the_library() {
        assert_eq!(
            version_of(Path::new("/nowhere/libonnxruntime.so.1.24.0"), 31),
            "1.31"
        );
    }

    #[test]
    fn newest_library_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.30.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_shared.so",
        ] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let names: Vec<_> = libraries_in(folder.path());
        assert_eq!(names.len(), 2);
        assert!(names[0].ends_with("libonnxruntime.so.1.31.1"));
    }
}
