//! Archives of a model directory or of a checkpoint: what an import needs of them is unpacked, and
//! nothing else.
//!
//! Names that lead out of the directory, links, and archives that grow beyond any weights when they
//! are unpacked are refused or left out before a byte is written.

mod tar;
mod zip;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use patchlight_escape::Excerpt;
use patchlight_import::CancelFlag;

use crate::{
    SourceError,
    address::ArchiveFormat,
    select::{self, Parts, Selection},
    space,
};

/// How many files and folders an archive may list.
const MAX_MEMBERS: usize = 10_000;

/// How many times its own size an archive may unpack to, beyond a start that every archive may.
/// Trained weights hardly become smaller; weights with half of their bits zero do by half.
const MAX_GROWTH: u64 = 50;
const FREE_GROWTH: u64 = 64 << 20;

/// Why an archive was not unpacked.
#[derive(Debug)]
pub(crate) enum ArchiveError {
    /// What is wrong with it.
    Refused(String),
    /// This machine, or the user.
    Source(SourceError),
}

impl From<SourceError> for ArchiveError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// What an archive lists.
#[derive(Debug, Default)]
struct Listing {
    /// Sizes of files by their names.
    files: BTreeMap<String, u64>,
    /// Whether there are links among what was left out.
    links: bool,
    members: usize,
}

impl Listing {
    /// Notes one more entry, whatever it is.
    fn count(&mut self) -> Result<(), ArchiveError> {
        self.members += 1;
        match self.members > MAX_MEMBERS {
            true => Err(refused(format!("it lists more than {MAX_MEMBERS} files"))),
            false => Ok(()),
        }
    }

    /// Notes a file; a later one of the same name takes its place, as unpacking would have it.
    fn add(&mut self, name: &str, size: u64) -> Result<(), ArchiveError> {
        let name = relative(name)?;
        if !is_junk(name) {
            self.files.insert(name.to_owned(), size);
        }
        Ok(())
    }
}

/// Unpacks what an import needs into a directory that is made.
///
/// # Errors
/// If it is damaged, is refused, has nothing that can be imported or does not fit, or it was
/// cancelled.
pub(crate) fn unpack(
    archive: &Path,
    format: ArchiveFormat,
    into: &Path,
    cancel: &CancelFlag,
) -> Result<(), ArchiveError> {
    let packed = fs::metadata(archive).map_err(SourceError::file(archive, "read it"))?;
    let limit = packed.len().saturating_mul(MAX_GROWTH) + FREE_GROWTH;
    let listing = match format {
        ArchiveFormat::Tar => tar::list(archive, false, limit)?,
        ArchiveFormat::TarGz => tar::list(archive, true, limit)?,
        ArchiveFormat::Zip => zip::list(archive)?,
    };
    let wanted = wanted(&listing)?;
    let size = wanted
        .keys()
        .filter_map(|name| listing.files.get(name))
        .sum();
    if size > limit {
        return Err(too_large());
    }
    fs::create_dir_all(into).map_err(SourceError::file(into, "make it"))?;
    space::check(into, size, "unpacking it")?;
    let mut write =
        |name: &str, size: u64, content: &mut dyn Read| match wanted.get(relative(name)?) {
            Some(target) => copy(content, size, &into.join(target), cancel),
            None => Ok(()),
        };
    match format {
        ArchiveFormat::Tar => tar::visit(archive, false, limit, &mut write),
        ArchiveFormat::TarGz => tar::visit(archive, true, limit, &mut write),
        ArchiveFormat::Zip => {
            let names: BTreeSet<&str> = wanted.keys().map(String::as_str).collect();
            zip::visit(archive, &names, &mut write)
        }
    }
}

/// What becomes of one file: its name, its size and its content.
type Visit<'a> = dyn FnMut(&str, u64, &mut dyn Read) -> Result<(), ArchiveError> + 'a;

/// The files that are unpacked: their names in the archive, and in the directory.
fn wanted(listing: &Listing) -> Result<BTreeMap<String, String>, ArchiveError> {
    let top = common_folder(listing.files.keys());
    let inside = |name: &String| name.get(top.len()..).unwrap_or(name).to_owned();
    let names: Vec<String> = listing.files.keys().map(inside).collect();
    let selection = select::select(&names).map_err(|mut error| {
        if listing.links {
            error += "; it has links, which are not followed: pack the files themselves, as \
                      tar --dereference does";
        }
        refused(error)
    })?;
    let is_wanted = |name: &String| match &selection {
        // Which of them, the manifest and the index say once they are here.
        Selection::ModelDir => !name.contains('/'),
        Selection::Checkpoint {
            descriptions,
            weights,
            parts,
        } => {
            let is_part = match parts {
                Parts::Listed(parts) => parts.contains(name),
                Parts::Shards => select::is_shard(name, weights),
            };
            is_part || name == weights || descriptions.contains(name)
        }
    };
    Ok(listing
        .files
        .keys()
        .map(|name| (name.clone(), inside(name)))
        .filter(|(_, inside)| is_wanted(inside))
        .collect())
}

/// The folders that everything lies in, with the last `/`; archives often have one around all.
fn common_folder<'a>(mut names: impl Iterator<Item = &'a String>) -> String {
    let folder = |name: &str| name.rfind('/').map_or("", |at| &name[..=at]).to_owned();
    let Some(first) = names.next() else {
        return String::new();
    };
    let mut common = folder(first);
    for name in names {
        while !name.starts_with(&common) {
            common = folder(common.trim_end_matches('/'));
        }
    }
    common
}

/// A name as it may be joined to a directory.
fn relative(name: &str) -> Result<&str, ArchiveError> {
    let short = name.trim_start_matches("./");
    match select::is_plain(short) {
        true => Ok(short),
        false => Err(refused(format!(
            "`{}` in it leads out of the directory that it is unpacked into",
            Excerpt(name)
        ))),
    }
}

/// What macOS adds to archives.
fn is_junk(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    name.starts_with("__MACOSX/") || last.starts_with("._") || last == ".DS_Store"
}

/// Writes a file of exactly this many bytes.
fn copy(
    content: &mut dyn Read,
    size: u64,
    path: &Path,
    cancel: &CancelFlag,
) -> Result<(), ArchiveError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(SourceError::file(folder, "make it"))?;
    let failed = || SourceError::file(path, "write it");
    let mut file = File::create(path).map_err(failed())?;
    let mut buffer = vec![0; 1 << 20];
    let mut written = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled.into());
        }
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error)),
        };
        written += count as u64;
        if written > size {
            break;
        }
        file.write_all(&buffer[..count]).map_err(failed())?;
    }
    if written != size {
        return Err(refused(
            "it is damaged: a file in it has another size than it says".to_owned(),
        ));
    }
    file.sync_data().map_err(failed())?;
    Ok(())
}

fn refused(detail: String) -> ArchiveError {
    ArchiveError::Refused(detail)
}

fn damaged(error: impl std::fmt::Display) -> ArchiveError {
    refused(format!("it is damaged: {}", Excerpt(error)))
}

fn too_large() -> ArchiveError {
    refused(format!(
        "it unpacks to more than {MAX_GROWTH} times its size, which no weights do"
    ))
}

#[cfg(test)]
mod tests;
