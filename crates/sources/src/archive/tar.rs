//! Tar archives, packed with gzip or not.
//!
//! The entries are read as they are stored: names of any length would otherwise be read into memory
//! before anybody could look at them.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::{ArchiveError, Listing, Visit, damaged, refused, too_large};
use crate::SourceError;

/// Bytes of a name, or of what else is said of an entry before it.
const MAX_EXTENSION: u64 = 64 << 10;

/// The files that are listed. All of it is read, so that what gzip checks is checked.
pub(super) fn list(path: &Path, packed: bool, limit: u64) -> Result<Listing, ArchiveError> {
    let mut listing = Listing::default();
    walk(path, packed, limit, &mut |member| {
        listing.count()?;
        match member {
            Member::File(name, size, _) => listing.add(name, size),
            Member::Link => {
                listing.links = true;
                Ok(())
            }
            Member::Other => Ok(()),
        }
    })?;
    Ok(listing)
}

/// Shows every file.
pub(super) fn visit(
    path: &Path,
    packed: bool,
    limit: u64,
    each: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    walk(path, packed, limit, &mut |member| match member {
        Member::File(name, size, content) => each(name, size, content),
        Member::Link | Member::Other => Ok(()),
    })
}

enum Member<'a> {
    File(&'a str, u64, &'a mut dyn Read),
    Link,
    Other,
}

fn walk(
    path: &Path,
    packed: bool,
    limit: u64,
    each: &mut dyn FnMut(Member<'_>) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let file = File::open(path).map_err(SourceError::file(path, "read it"))?;
    let file = BufReader::with_capacity(1 << 20, file);
    let mut bounded = Bounded {
        inner: match packed {
            true => Box::new(MultiGzDecoder::new(file)),
            false => Box::new(file) as Box<dyn Read>,
        },
        left: limit,
        exceeded: false,
    };
    let outcome = entries(&mut bounded, each);
    match bounded.exceeded {
        true => Err(too_large()),
        false => outcome,
    }
}

fn entries(
    bounded: &mut Bounded,
    each: &mut dyn FnMut(Member<'_>) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut archive = Archive::new(&mut *bounded);
    let mut said = Said::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let size = entry.header().entry_size().map_err(damaged)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => said.name = Some(name(&extension(&mut entry)?)?),
            EntryType::XHeader => said.read(&extension(&mut entry)?)?,
            EntryType::GNULongLink | EntryType::XGlobalHeader => drop(extension(&mut entry)?),
            kind => {
                let Said {
                    name: long,
                    size: other,
                } = std::mem::take(&mut said);
                if other.is_some_and(|other| other != size) {
                    return Err(refused(
                        "it has a file that is too large for a plain tar archive; pack it with \
                         zip, or name the folder instead of the archive"
                            .to_owned(),
                    ));
                }
                match kind {
                    EntryType::Regular | EntryType::Continuous => {
                        let name = match long {
                            Some(name) => name,
                            None => name(&entry.path_bytes())?,
                        };
                        each(Member::File(&name, size, &mut entry))?;
                    }
                    EntryType::Symlink | EntryType::Link => each(Member::Link)?,
                    _ => each(Member::Other)?,
                }
            }
        }
    }
    io::copy(bounded, &mut io::sink()).map_err(damaged)?;
    Ok(())
}

/// What is said of the next entry before it.
#[derive(Default)]
struct Said {
    name: Option<String>,
    size: Option<u64>,
}

impl Said {
    /// Reads extended headers (POSIX.1-2001, pax).
    fn read(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        for extension in PaxExtensions::new(bytes) {
            let extension = extension.map_err(damaged)?;
            match extension.key_bytes() {
                b"path" => self.name = Some(name(extension.value_bytes())?),
                b"size" => {
                    let size = extension.value().ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.unwrap_or(u64::MAX));
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(refused("it has sparse files; pack it without".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn extension(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    let read = entry.take(MAX_EXTENSION + 1).read_to_end(&mut bytes);
    read.map_err(damaged)?;
    match bytes.len() as u64 > MAX_EXTENSION {
        true => Err(refused(format!(
            "it has a name of more than {MAX_EXTENSION} bytes"
        ))),
        false => Ok(bytes),
    }
}

fn name(bytes: &[u8]) -> Result<String, ArchiveError> {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    let text = bytes.get(..end).unwrap_or_default().to_vec();
    String::from_utf8(text).map_err(|_| refused("it has a name that is no UTF-8".to_owned()))
}

/// A reader that ends with an error after so many bytes.
struct Bounded {
    inner: Box<dyn Read>,
    left: u64,
    exceeded: bool,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::Error::other("too large"));
            }
        }
        Ok(count)
    }
}
