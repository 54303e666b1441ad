//! Files with secrets: keys, passwords, configuration that may hold them.
//!
//! What a library says of a file that it cannot read may repeat the file. So nothing of what it says
//! is shown: a [`SecretFileError`] is made of the file's name, the number of a line, and words that
//! were written here.

use std::{
    fmt::{self, Display, Formatter},
    fs, io,
    path::{Path, PathBuf},
};

use crate::bom;

/// The content of a file with secrets, without a byte order mark.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Why a file with secrets cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretFileError {
    path: PathBuf,
    why: Why,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Why {
    Content(Flaw),
    System(io::ErrorKind, Option<i32>),
}

/// What is wrong with the content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flaw {
    /// Counted from 1, where it is in one line.
    pub line: Option<usize>,
    /// For whoever has to mend it.
    pub what: &'static str,
}

impl SecretFile {
    /// Reads the whole file.
    ///
    /// # Errors
    /// When it cannot be read, or is text in UTF-16.
    pub fn read(path: &Path) -> Result<Self, SecretFileError> {
        let error = |why| SecretFileError {
            path: path.to_owned(),
            why,
        };
        let bytes =
            fs::read(path).map_err(|why| error(Why::System(why.kind(), why.raw_os_error())))?;
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            let what = "it is UTF-16; save it as UTF-8";
            return Err(error(Why::Content(what.into())));
        }
        Ok(Self {
            path: path.to_owned(),
            bytes: bom::strip(&bytes).to_vec(),
        })
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it holds, as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str, SecretFileError> {
        str::from_utf8(&self.bytes).map_err(|_| self.error("it is not UTF-8"))
    }

    /// An error that names this file.
    pub fn error(&self, flaw: impl Into<Flaw>) -> SecretFileError {
        SecretFileError {
            path: self.path.clone(),
            why: Why::Content(flaw.into()),
        }
    }
}

impl From<&'static str> for Flaw {
    fn from(what: &'static str) -> Self {
        Self { line: None, what }
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "SecretFile({})", self.path.display())
    }
}

impl Display for SecretFileError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match self.why {
            Why::Content(Flaw { line: None, what }) => f.write_str(what),
            Why::Content(Flaw {
                line: Some(line),
                what,
            }) => write!(f, "line {line}: {what}"),
            Why::System(_, Some(code)) => io::Error::from_raw_os_error(code).fmt(f),
            Why::System(kind, None) => kind.fmt(f),
        }
    }
}

impl std::error::Error for SecretFileError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_utf_16_is_named() {
        let marked = file(b"\xef\xbb\xbfhunter2\n");
        let read = SecretFile::read(marked.path()).unwrap();
        assert_eq!(read.text().unwrap(), "hunter2\n");
        // As PowerShell's `>` writes it.
        let wide = file(b"\xff\xfeh\0u\0n\0");
        let why = SecretFile::read(wide.path()).unwrap_err().to_string();
        assert!(why.contains("UTF-16"), "{why}");
    }

    #[test]
    fn neither_errors_nor_debug_output_hold_anything_of_it() {
        let bad = file(b"hunter2\xff");
        let read = SecretFile::read(bad.path()).unwrap();
        let why = read.text().unwrap_err();
        for shown in [why.to_string(), format!("{why:?}"), format!("{read:?}")] {
            assert!(
                !shown.contains("hunter") && !shown.contains("104"),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_the_system_says_names_the_file() {
        let why = SecretFile::read(Path::new("/no/such/key")).unwrap_err();
        let shown = why.to_string();
        assert!(shown.starts_with("/no/such/key: No such file"), "{shown}");
    }

    #[test]
    fn a_line_is_named() {
        let read = SecretFile::read(file(b"x").path()).unwrap();
        let flaw = Flaw {
            line: Some(3),
            what: "it is too short",
        };
        let shown = read.error(flaw).to_string();
        assert!(shown.ends_with(": line 3: it is too short"), "{shown}");
    }
}
