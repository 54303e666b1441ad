//! The `patchlight` program; everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    patchlight::commands::run(patchlight::args::Cli::parse())
}
