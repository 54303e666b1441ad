//! The `patchlight` program; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(unix)]
    environment::set_and_restart();
    patchlight::commands::run(patchlight::args::Cli::read(std::env::args_os()))
}

/// Environment variables that the libraries read when they are loaded. A process cannot set them
/// for itself in time, so it sets them and executes itself again.
#[cfg(unix)]
mod environment {
    use std::{env, os::unix::process::CommandExt, process::Command};

    /// Set unless they are set already.
    const VARIABLES: [(&str, &str); 3] = [
        // ONNX Runtime 1.31 keeps usage data in a database below the home directory.
        ("ORT_DISABLE_TELEMETRY", "1"),
        // Once a decoded image was freed, glibc takes blocks of that size from its heaps and
        // keeps up to twice as much on each thread, on top of `--decode-memory`. With a fixed
        // threshold large blocks go back when they are freed (docs/performance.md, Memory) ...
        ("MALLOC_MMAP_THRESHOLD_", "1048576"),
        // ... and what a request takes besides stays for the next one.
        ("MALLOC_TRIM_THRESHOLD_", "4194304"),
    ];

    /// Restarts the program in this process with the variables set, unless they all are.
    /// Where that fails the program goes on as it is: it can answer all the same.
    pub(super) fn set_and_restart() {
        let mut missing = VARIABLES.to_vec();
        missing.retain(|(name, _)| env::var_os(name).is_none());
        if missing.is_empty() {
            return;
        }
        let mut arguments = env::args_os();
        if let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) {
            let _ = Command::new(program)
                .arg0(name)
                .args(arguments)
                .envs(missing)
                .exec();
        }
    }
}
