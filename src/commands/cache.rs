//! `patchlight cache`: the models that were named by an address and are kept.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use bytesize::ByteSize;
use patchlight_escape::Escaped;
use patchlight_sources::{CacheEntry, ModelCache, PrecisionChoice, PruneRule, Pruned, Source};
use serde::Serialize;

use super::{USAGE, fail};
use crate::{
    args::{CacheArgs, CacheCommand},
    sources::SourceSettings,
};

pub(super) fn run(args: &CacheArgs) -> ExitCode {
    let settings = SourceSettings {
        cache_dir: args.cache_dir.clone(),
        precision: PrecisionChoice::Auto,
        check: None,
    };
    let cache = match settings.cache() {
        Ok(cache) => cache,
        Err(error) => return fail(1, error),
    };
    match &args.command {
        CacheCommand::List { json } => list(&cache, *json),
        CacheCommand::Prune {
            sources,
            unused_for,
        } => match rule(sources, unused_for.as_deref()) {
            Ok(rule) => prune(&cache, &rule),
            Err(error) => fail(USAGE, error),
        },
    }
}

fn list(cache: &ModelCache, json: bool) -> ExitCode {
    let entries = match cache.entries() {
        Ok(entries) => entries,
        Err(error) => return fail(1, error),
    };
    let written = match json {
        true => entries.iter().try_for_each(write_json),
        false => entries.iter().try_for_each(write_line),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

/// An entry as one JSON object.
#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    revision: &'a str,
    precision: &'a str,
    importer: &'a str,
    bytes: u64,
    imported: String,
    used: String,
    directory: &'a PathBuf,
    /// Whether a start with this program would take it.
    current: bool,
}

fn write_json(entry: &CacheEntry) -> io::Result<()> {
    let line = Line {
        source: &entry.source,
        revision: &entry.origin.revision,
        precision: &entry.precision,
        importer: &entry.importer,
        bytes: entry.bytes,
        imported: humantime::format_rfc3339_seconds(entry.made).to_string(),
        used: humantime::format_rfc3339_seconds(entry.used).to_string(),
        directory: &entry.directory,
        current: entry.is_current(),
    };
    let text = serde_json::to_string(&line)?;
    writeln!(io::stdout(), "{text}")
}

fn write_line(entry: &CacheEntry) -> io::Result<()> {
    let unused = SystemTime::now().duration_since(entry.used);
    let unused = Duration::from_secs(unused.unwrap_or_default().as_secs());
    let revision: String = entry.origin.revision.chars().take(12).collect();
    let stale = match entry.is_current() {
        true => "",
        false => ", no start takes it any more",
    };
    writeln!(
        io::stdout(),
        "{} at {}, {}, {}, used {} ago{stale}\n    {}",
        Escaped(&entry.source),
        Escaped(&revision),
        Escaped(&entry.precision),
        ByteSize(entry.bytes),
        humantime::format_duration(unused),
        Escaped(entry.directory.display())
    )
}

fn rule(sources: &[String], unused_for: Option<&str>) -> Result<PruneRule, String> {
    let sources: Result<Vec<Source>, _> = sources.iter().map(|text| Source::parse(text)).collect();
    let unused_for = unused_for.map(|text| {
        humantime::parse_duration(text)
            .map_err(|_| format!("--unused-for: `{text}` is not a duration such as 30days"))
    });
    Ok(PruneRule {
        sources: sources.map_err(|error| error.to_string())?,
        unused_for: unused_for.transpose()?,
    })
}

fn prune(cache: &ModelCache, rule: &PruneRule) -> ExitCode {
    let Pruned {
        removed,
        busy,
        bytes,
    } = match cache.prune(rule) {
        Ok(pruned) => pruned,
        Err(error) => return fail(1, error),
    };
    for directory in &removed {
        eprintln!("removed {}", Escaped(directory.display()));
    }
    for directory in &busy {
        let directory = Escaped(directory.display());
        eprintln!("kept {directory}: a process is importing");
    }
    eprintln!("{} are free again", ByteSize(bytes));
    ExitCode::SUCCESS
}
