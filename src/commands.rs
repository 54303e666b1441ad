//! What the program does, a command a file.

mod classify;
mod health;
mod import;
mod inspect;
mod manual;
mod pictures;
mod serve;

use std::{fmt::Display, process::ExitCode};

use crate::args::{Cli, Command};

/// Wrong usage, as clap reports it.
const USAGE: u8 = 2;

/// Bad configuration, as `sysexits.h` numbers it.
const BAD_CONFIGURATION: u8 = 64;

/// Runs what was typed; the process's exit status.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { command, serve } = cli;
    match command.unwrap_or_else(|| Command::Serve(Box::new(serve))) {
        Command::Serve(args) => serve::run(&args),
        Command::Import(args) => import::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}

/// Says why, a line each, and gives the status.
fn fail(status: u8, why: impl Display) -> ExitCode {
    for line in why.to_string().lines() {
        eprintln!("patchlight: {line}");
    }
    ExitCode::from(status)
}
