//! What was typed: every flag and its environment variable. Nothing is interpreted here; values
//! stay text until [`config`](crate::config) has looked at all of them.

mod evaluate;
mod import;
mod layers;
mod secret;
mod serve;
mod tracing;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand};

pub use self::{
    evaluate::EvaluateArgs,
    import::ImportArgs,
    layers::{Layers, default_file},
    secret::Secret,
    serve::ServeArgs,
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
    /// Label pictures on disk, without a server
    Classify(ClassifyArgs),
    /// Measure whether the maps are true, on pictures whose object's place is known
    Evaluate(EvaluateArgs),
    /// Show what a model directory holds
    Inspect(InspectArgs),
    /// Ask a running server whether it is ready: exit status 0 if so
    Health(HealthArgs),
    /// Write the completions of a shell, such as `source <(patchlight completions bash)`
    Completions(CompletionsArgs),
    /// Write the manual page, such as `patchlight man | man -l -`
    Man(ManArgs),
}

/// Flags of `patchlight classify`.
#[derive(Args, Clone, Debug)]
pub struct ClassifyArgs {
    /// Pictures, folders that are searched for pictures, and patterns such as 'photos/**/*.jpg'
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Model directory [default: the demo]
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_MODEL")]
    pub model: Option<PathBuf>,

    /// How many labels a picture
    #[arg(long, value_name = "N", default_value = "5", env = "PATCHLIGHT_TOP_K")]
    pub top_k: NonZeroUsize,

    /// One JSON object a picture and line
    #[arg(long, env = "PATCHLIGHT_JSON")]
    pub json: bool,

    /// Write a picture of each map into this folder
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_OVERLAY")]
    pub overlay: Option<PathBuf>,

    /// What computes: auto, cpu, cuda[:N] or tensorrt[:N]
    #[arg(
        long,
        value_name = "DEVICE",
        env = "PATCHLIGHT_DEVICE",
        default_value = "auto"
    )]
    pub device: String,
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
