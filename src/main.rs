//! The `patchlight` program; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(unix)]
    silence::the_runtime();
    patchlight::commands::run(patchlight::args::Cli::read(std::env::args_os()))
}

/// ONNX Runtime 1.31 keeps usage data in a database below the home directory, before anything can
/// be told to it but by its environment; and a program's own environment changes only in its next
/// life.
#[cfg(unix)]
mod silence {
    use std::{env, os::unix::process::CommandExt, process::Command};

    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

    /// Starts the program anew in this process with the variable set, unless it is set already.
    /// Where that fails the program goes on as it is: it can answer all the same.
    pub(super) fn the_runtime() {
        if env::var_os(VARIABLE).is_some() {
            return;
        }
        let mut arguments = env::args_os();
        if let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) {
            let _ = Command::new(program)
                .arg0(name)
                .args(arguments)
                .env(VARIABLE, "1")
                .exec();
        }
    }
}
