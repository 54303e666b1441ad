//! Flags of `patchlight cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of `patchlight cache`.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,

    /// Where imported models are kept [default: patchlight in the platform's directory for caches]
    #[arg(long, value_name = "DIR", env = "PATCHLIGHT_CACHE_DIR", global = true)]
    pub cache_dir: Option<PathBuf>,
}

/// What to do with the cache.
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// Show the models that are kept, where each is from, its size and when it was used
    List {
        /// One JSON object a line
        #[arg(long, env = "PATCHLIGHT_JSON")]
        json: bool,
    },
    /// Remove models: those named, those unused, and always what no start would take any more
    Prune {
        /// Sources as they were named, such as hf://ORG/NAME; a next start fetches them anew
        #[arg(value_name = "SOURCE")]
        sources: Vec<String>,

        /// Models that no process started with for so long, such as 30days; 0s removes all
        #[arg(long, value_name = "DURATION")]
        unused_for: Option<String>,
    },
}
