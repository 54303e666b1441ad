//! The `patchlight` program; everything it does is in the library.

use std::{env, process::ExitCode};

/// Keeps ONNX Runtime from opening its telemetry database in the user's cache directory, which it
/// does while it is loaded and before it can be told not to (seen with 1.31.1 of PyPI's wheel).
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

fn main() -> ExitCode {
    #[cfg(unix)]
    if env::var_os(NO_TELEMETRY).is_none() {
        eprintln!("patchlight: {}", restart_without_telemetry());
        return ExitCode::FAILURE;
    }
    patchlight::commands::run(patchlight::args::Cli::read(env::args_os()))
}

/// Replaces this process by itself with the variable set: one's own environment cannot be changed
/// safely. Returns only why that failed.
#[cfg(unix)]
fn restart_without_telemetry() -> String {
    use std::{os::unix::process::CommandExt, process::Command};
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(why) => return format!("{why}; set {NO_TELEMETRY}=1"),
    };
    let mut arguments = env::args_os();
    let mut command = Command::new(&program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let why = command.args(arguments).env(NO_TELEMETRY, "1").exec();
    format!("{}: {why}; set {NO_TELEMETRY}=1", program.display())
}
