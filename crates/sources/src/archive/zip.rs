//! Zip archives.

use std::{collections::BTreeSet, fs::File, io::BufReader, path::Path};

use zip::ZipArchive;

use super::{ArchiveError, Listing, Visit, damaged, relative};
use crate::SourceError;

/// The files that the directory at the end lists.
pub(super) fn list(path: &Path) -> Result<Listing, ArchiveError> {
    let mut archive = open(path)?;
    let mut listing = Listing::default();
    for index in 0..archive.len() {
        listing.count()?;
        let file = archive.by_index_raw(index).map_err(damaged)?;
        match (file.is_symlink(), file.is_file()) {
            (true, _) => listing.links = true,
            (_, true) => listing.add(&file.name().map_err(damaged)?, file.size())?,
            _ => {}
        }
    }
    Ok(listing)
}

/// Shows the files of these names.
pub(super) fn visit(
    path: &Path,
    names: &BTreeSet<&str>,
    each: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    let mut archive = open(path)?;
    for index in 0..archive.len() {
        let raw = archive.by_index_raw(index).map_err(damaged)?;
        let is_file = raw.is_file() && !raw.is_symlink();
        let is_wanted = is_file && names.contains(relative(&raw.name().map_err(damaged)?)?);
        drop(raw);
        if is_wanted {
            let mut file = archive.by_index(index).map_err(damaged)?;
            let name = file.name().map_err(damaged)?.into_owned();
            let size = file.size();
            each(&name, size, &mut file)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<ZipArchive<BufReader<File>>, ArchiveError> {
    let file = File::open(path).map_err(SourceError::file(path, "read it"))?;
    ZipArchive::new(BufReader::new(file)).map_err(damaged)
}
