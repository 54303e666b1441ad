//! What the program does, a command a file.

mod bench;
mod cache;
mod calibrate;
mod classify;
mod evaluate;
mod health;
mod import;
mod inspect;
mod manual;
mod serve;

use std::{fmt::Display, process::ExitCode};

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Cli, Command};
use patchlight_escape::Escaped;

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
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}

/// Says why, a line each, and gives the status.
fn fail(status: u8, error: impl Display) -> ExitCode {
    for line in error.to_string().lines() {
        eprintln!("patchlight: {}", Escaped(line));
    }
    ExitCode::from(status)
}

/// A bar for many images on a terminal; nothing otherwise.
fn progress(images: usize) -> ProgressBar {
    if images < 10 {
        return ProgressBar::hidden();
    }
    let template = "[{bar:40}] {pos}/{len}, {per_sec}, {eta} left";
    // The template is a constant; were it wrong, the default bar would do.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(images as u64).with_style(style)
}
