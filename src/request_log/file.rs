//! A file that is begun anew when it is full.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Appends to `PATH`; when it is full it becomes `PATH.1`, what was `PATH.1` becomes `PATH.2`, and
/// so on. It is opened for each batch, so that others may rename it, too.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    kept: usize,
}

impl RotatingFile {
    /// Finds out at once whether it can be written.
    pub(super) fn open(path: PathBuf, max_bytes: u64, kept: usize) -> io::Result<Self> {
        append_to(&path)?;
        Ok(Self {
            path,
            max_bytes,
            kept,
        })
    }

    /// Writes whole lines, at the end of this file or the beginning of the next.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = append_to(&self.path)?;
        let length = file.metadata()?.len();
        if length > 0 && length.saturating_add(lines.len() as u64) > self.max_bytes {
            self.rotate()?;
            file = append_to(&self.path)?;
        }
        file.write_all(lines)
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (1..self.kept).rev() {
            let older = self.numbered(number);
            match fs::rename(&older, self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn named(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let files = files.iter();
        let files = files.map(|&(name, text)| (name.to_owned(), text.to_owned()));
        files.collect()
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = RotatingFile::open(folder.path().join("log"), 8, 2).unwrap();
        for line in [
            "aaa\n", "bbb\n", "ccc\n", "ddd\n", "eee\n", "fff\n", "ggg\n",
        ] {
            file.append(line.as_bytes()).unwrap();
        }
        let expected = [
            ("log", "ggg\n"),
            ("log.1", "eee\nfff\n"),
            ("log.2", "ccc\nddd\n"),
        ];
        assert_eq!(content(folder.path()), named(&expected));
    }

    #[test]
    fn more_than_a_file_s_size_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = RotatingFile::open(folder.path().join("log"), 4, 1).unwrap();
        file.append(b"longer than four\n").unwrap();
        file.append(b"x\n").unwrap();
        let expected = [("log", "x\n"), ("log.1", "longer than four\n")];
        assert_eq!(content(folder.path()), named(&expected));
    }

    #[test]
    fn a_file_that_somebody_else_renamed_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = RotatingFile::open(path.clone(), 100, 1).unwrap();
        file.append(b"a\n").unwrap();
        fs::rename(&path, folder.path().join("taken")).unwrap();
        file.append(b"b\n").unwrap();
        assert_eq!(
            content(folder.path()),
            named(&[("log", "b\n"), ("taken", "a\n")])
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_out_at_the_start() {
        assert!(RotatingFile::open("/nowhere/log".into(), 1, 1).is_err());
    }
}
