//! The `patchlight` program; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    patchlight::commands::run(patchlight::args::Cli::read(std::env::args_os()))
}
