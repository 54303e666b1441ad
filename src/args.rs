//! Command line: every flag and its environment variable. Nothing is interpreted here; values stay
//! text until [`config`](crate::config) has looked at all of them.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "clap shows these comments as they are: brackets are optional parts, no links"
)]

mod bench;
mod cache;
mod calibrate;
mod classify;
mod evaluate;
mod import;
mod origins;
mod request_log;
mod secret;
mod serve;
mod settings_file;
mod sources;
mod tracing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::{
    bench::BenchArgs,
    cache::{CacheArgs, CacheCommand},
    calibrate::CalibrateArgs,
    classify::ClassifyArgs,
    evaluate::EvaluateArgs,
    import::ImportArgs,
    origins::SettingSources,
    request_log::RequestLogArgs,
    secret::Secret,
    serve::ServeArgs,
    settings_file::default_file,
    sources::SourceArgs,
    tracing::TracingArgs,
};

/// Serve a Vision Transformer over HTTP: labels, and which patches the model looked at.
///
/// Without a command it serves the demo model, or the one that --model names.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Cli {
    /// What to do; serving if nothing is named.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The flags of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer HTTP requests (the default)
    Serve(Box<ServeArgs>),
    /// Turn a checkpoint into a model directory
    Import(ImportArgs),
    /// Label images on disk, without a server
    Classify(ClassifyArgs),
    /// Measure whether the maps are true, on images whose object's place is known
    Evaluate(EvaluateArgs),
    /// Measure on labelled images what a model's scores are worth, and write it into its directory
    Calibrate(CalibrateArgs),
    /// Measure how fast a model is on this machine, without a server
    Bench(BenchArgs),
    /// Show or clear the models that were named by an address
    Cache(CacheArgs),
    /// Show what a model directory holds
    Inspect(InspectArgs),
    /// Ask a running server whether it is ready: exit status 0 if so
    Health(HealthArgs),
    /// Write the completions of a shell, such as `source <(patchlight completions bash)`
    Completions(CompletionsArgs),
    /// Write the manual page, such as `patchlight man | man -l -`
    Man(ManArgs),
}

/// Flags of `patchlight inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// Model directory
    pub directory: PathBuf,
}

/// Flags of `patchlight health`.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// The server [default: http:// and the address of PATCHLIGHT_LISTEN, on the loopback]
    pub url: Option<String>,
}

/// Flags of `patchlight completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// Flags of `patchlight man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The page of this command instead of the program's
    pub command: Option<String>,
}
