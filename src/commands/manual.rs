//! `patchlight completions SHELL` and `patchlight man`: made from the same definition as `--help`.

use std::{io, process::ExitCode};

use clap::CommandFactory;

use super::fail;
use crate::args::{Cli, CompletionsArgs, ManArgs};

/// Writes the completions of a shell to standard output.
pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut command = Cli::command();
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "patchlight", &mut text);
    written(io::Write::write_all(&mut io::stdout().lock(), &text))
}

/// Writes the manual page of the program or of one of its commands to standard output.
pub(super) fn man(args: &ManArgs) -> ExitCode {
    let mut whole = Cli::command();
    whole.build();
    let page = match &args.command {
        None => whole,
        Some(name) => match whole.find_subcommand(name) {
            Some(command) => command.clone(),
            None => return fail(super::USAGE, format!("there is no command `{name}`")),
        },
    };
    written(clap_mangen::Man::new(page).render(&mut io::stdout().lock()))
}

/// A reader that has seen enough, such as `head`, is no failure.
pub(super) fn written(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(1, error),
        _ => ExitCode::SUCCESS,
    }
}
