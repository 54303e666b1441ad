//! What the cache holds, and what of it goes.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use patchlight_import::IMPORTER;
use patchlight_model::manifest::Origin;

use super::{ModelCache, record::Record};
use crate::{Source, SourceError, lock::FileLock};

/// A model that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheEntry {
    /// What it was asked for by.
    pub source: String,
    /// Where it was fetched from.
    pub origin: Origin,
    /// In numbers of this kind.
    pub precision: String,
    /// The program that imported it.
    pub importer: String,
    /// The model directory.
    pub directory: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was imported.
    pub made: SystemTime,
    /// When a process last started with it.
    pub used: SystemTime,
    record: PathBuf,
}

impl CacheEntry {
    /// Whether a start with this program would take it.
    pub fn is_current(&self) -> bool {
        self.importer == IMPORTER && self.bytes > 0
    }
}

/// What goes besides what no start would take any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PruneRule {
    /// Models of these sources.
    pub sources: Vec<Source>,
    /// Models that were not used for so long.
    pub unused_for: Option<Duration>,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pruned {
    /// Models, and what imports left that were killed.
    pub removed: Vec<PathBuf>,
    /// Models that a process is importing at the moment.
    pub busy: Vec<PathBuf>,
    /// Bytes that are free again.
    pub bytes: u64,
}

impl ModelCache {
    /// Everything that is kept, the one that was used last first.
    ///
    /// # Errors
    /// If a directory of the cache cannot be read.
    pub fn entries(&self) -> Result<Vec<CacheEntry>, SourceError> {
        let mut entries = Vec::new();
        for path in listed(&self.directory.join("records"))? {
            let is_record = path.extension().is_some_and(|ending| ending == "toml");
            let Some(record) = is_record.then(|| Record::read(&path)).flatten() else {
                continue;
            };
            let used = fs::metadata(&path).and_then(|file| file.modified());
            let made = UNIX_EPOCH + Duration::from_secs(record.made);
            entries.push(CacheEntry {
                bytes: size(&record.directory),
                source: record.source,
                origin: record.origin,
                precision: record.precision,
                importer: record.importer,
                directory: record.directory,
                made,
                used: used.unwrap_or(made),
                record: path,
            });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        Ok(entries)
    }

    /// Removes models, and with any rule what no start would take any more: models of other
    /// versions of this program, and what was left by fetches and imports that were killed. What the hub's
    /// client keeps is its own and stays.
    ///
    /// # Errors
    /// If something cannot be read or removed.
    pub fn prune(&self, rule: &PruneRule) -> Result<Pruned, SourceError> {
        let now = SystemTime::now();
        let sources: BTreeSet<String> = rule.sources.iter().map(Source::to_string).collect();
        let goes = |entry: &CacheEntry| {
            let unused = now.duration_since(entry.used).unwrap_or_default();
            !entry.is_current()
                || sources.contains(&entry.source)
                || rule.unused_for.is_some_and(|limit| unused >= limit)
        };
        let (going, staying): (Vec<_>, Vec<_>) = self.entries()?.into_iter().partition(goes);
        let kept: BTreeSet<PathBuf> = staying.into_iter().map(|entry| entry.directory).collect();
        let mut pruned = Pruned::default();
        for entry in going {
            let key = entry
                .record
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy();
            let Some(_lock) = FileLock::try_acquire(&self.lock_path(&key))? else {
                pruned.busy.push(entry.directory);
                continue;
            };
            remove_file(&entry.record)?;
            pruned.removed.push(entry.directory);
        }
        self.remove_unlisted(&kept, &mut pruned)?;
        Ok(pruned)
    }

    /// Removes directories that no record leads to, unless one is being made.
    fn remove_unlisted(
        &self,
        kept: &BTreeSet<PathBuf>,
        pruned: &mut Pruned,
    ) -> Result<(), SourceError> {
        let mut directories = listed(&self.directory.join("models"))?;
        directories.extend(listed(&self.directory.join("downloads"))?);
        for path in directories {
            let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            if kept.contains(&absolute) || pruned.busy.contains(&absolute) {
                continue;
            }
            // Whoever is about to make this directory, or to write a record of it, has a lock;
            // whoever comes later waits for this one.
            let lock = self.lock_of(&path)?;
            let held = lock.as_deref().map(FileLock::try_acquire).transpose()?;
            if matches!(held, Some(None)) || self.is_locked_besides(lock.as_deref())? {
                pruned.busy.push(absolute);
                continue;
            }
            pruned.bytes += size(&path);
            fs::remove_dir_all(&path).map_err(SourceError::file(&path, "remove it"))?;
            if !pruned.removed.contains(&absolute) {
                pruned.removed.push(absolute);
            }
        }
        Ok(())
    }

    /// The lock of a model directory, or of what is becoming one: their names end in the beginning
    /// of the key.
    fn lock_of(&self, directory: &Path) -> Result<Option<PathBuf>, SourceError> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".partial").unwrap_or(&name);
        let start = name.rsplit('-').next().unwrap_or_default();
        let locks = listed(&self.directory.join("locks"))?;
        let is_its = |path: &PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            !start.is_empty() && file.starts_with(start)
        };
        Ok(locks.into_iter().find(is_its))
    }

    /// Whether any process imports into this cache, as far as other locks tell.
    fn is_locked_besides(&self, own: Option<&Path>) -> Result<bool, SourceError> {
        for lock in listed(&self.directory.join("locks"))? {
            if Some(lock.as_path()) != own && FileLock::try_acquire(&lock)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The paths in a directory, by name; none if there is no such directory.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let failed = || SourceError::file(directory, "read it");
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed())?,
    };
    let paths: Result<Vec<PathBuf>, io::Error> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.map_err(failed())?;
    paths.sort_unstable();
    Ok(paths)
}

fn remove_file(path: &Path) -> Result<(), SourceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(SourceError::file(path, "remove it")),
    }
}

/// Bytes of the files in a directory and below it.
fn size(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| {
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => size(&path),
            Ok(found) => found.len(),
            Err(_) => 0,
        }
    });
    sizes.sum()
}
