//! Which file or folder an address means, below where it is.

use std::fmt;

/// A folder, and what is meant in it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Place {
    /// Folders from the top, without empty ones.
    folder: Vec<String>,
    target: Target,
    /// SHA-256 that the file has to have.
    pin: Option<String>,
}

/// What is meant in a folder.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Target {
    /// All of it: a model directory, or a checkpoint directory.
    Folder,
    /// A file of weights; what describes it lies beside it.
    Weights(String),
    /// An archive of a folder.
    Archive(String, ArchiveFormat),
}

/// How an archive is packed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum ArchiveFormat {
    Tar,
    TarGz,
    Zip,
}

/// Endings of archives, the longer first.
const ARCHIVES: [(&str, ArchiveFormat); 4] = [
    (".tar.gz", ArchiveFormat::TarGz),
    (".tgz", ArchiveFormat::TarGz),
    (".tar", ArchiveFormat::Tar),
    (".zip", ArchiveFormat::Zip),
];

/// Endings of files of weights.
const WEIGHTS: [&str; 7] = [
    ".safetensors",
    ".npz",
    ".pth",
    ".pt",
    ".bin",
    ".ckpt",
    ".onnx",
];

/// What marks the digest that a file has to have, at the end of an address.
const PIN: &str = "#sha256=";

impl Place {
    /// Reads a path: `/` between names, `/` at the end for a folder whatever it is called, and
    /// `#sha256=…` behind a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        let (path, pin) = match path.split_once(PIN) {
            Some((path, pin)) => (path, Some(digest(pin)?)),
            None => (path, None),
        };
        let mut folder: Vec<String> = path.split('/').map(str::to_owned).collect();
        let last = folder.pop().unwrap_or_default();
        if folder.iter().any(String::is_empty) {
            return Err("a name between two `/` is missing".to_owned());
        }
        let parts = folder.iter().chain([&last]);
        if let Some(part) = parts.into_iter().find(|part| !is_plain(part)) {
            return Err(format!("`{part}` is no name of a file or folder"));
        }
        let target = match Target::of_name(&last) {
            Some(target) => target,
            None => {
                folder.extend((!last.is_empty()).then_some(last));
                Target::Folder
            }
        };
        if pin.is_some() && target == Target::Folder {
            return Err(format!(
                "{PIN} is of a file, and this is a folder: a file ends in one of {}, {}",
                ARCHIVES.map(|(ending, _)| ending).join(", "),
                WEIGHTS.join(", "),
            ));
        }
        Ok(Self {
            folder,
            target,
            pin,
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// SHA-256 in hexadecimal that the file has to have.
    pub(crate) fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }

    /// The path of a name in the folder, from the top.
    pub(crate) fn path(&self, name: &str) -> String {
        let mut path = self.folder.join("/");
        if !path.is_empty() && !name.is_empty() {
            path.push('/');
        }
        path + name
    }

    /// What a model from here is called: by its file or folder, or by `top` where that says
    /// nothing. Letters, digits, `-`, `_` and `.` alone.
    pub(super) fn model_name(&self, top: &str) -> String {
        const LONGEST: usize = 64;
        // Names that every model's file has.
        const USUAL: [&str; 4] = ["model", "pytorch_model", "weights", "checkpoint"];
        let stem = match &self.target {
            Target::Folder => None,
            Target::Weights(name) => name.rsplit_once('.').map(|(stem, _)| stem),
            Target::Archive(name, _) => ARCHIVES
                .iter()
                .find_map(|(ending, _)| strip_ending(name, ending)),
        };
        let folder = self.folder.last().map(String::as_str);
        let name = match stem {
            Some(stem) if !USUAL.contains(&stem) => stem,
            _ => folder.or(stem).unwrap_or(top),
        };
        let plain = |letter: char| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => letter,
            _ => '-',
        };
        let name: String = name.trim_start_matches('.').chars().map(plain).collect();
        let name: String = name.chars().take(LONGEST).collect();
        match name.is_empty() {
            true => "model".to_owned(),
            false => name,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.target {
            Target::Folder => "",
            Target::Weights(name) | Target::Archive(name, _) => name,
        };
        f.write_str(&self.path(name))?;
        // Without it a folder that is called like a file would become one.
        let folder = self.folder.last();
        if self.target == Target::Folder
            && folder.is_some_and(|name| Target::of_name(name).is_some())
        {
            f.write_str("/")?;
        }
        match &self.pin {
            Some(pin) => write!(f, "{PIN}{pin}"),
            None => Ok(()),
        }
    }
}

impl Target {
    /// What a name's ending says; `None` is a folder.
    fn of_name(name: &str) -> Option<Self> {
        let has = |ending: &str| strip_ending(name, ending).is_some();
        if let Some((_, format)) = ARCHIVES.iter().find(|(ending, _)| has(ending)) {
            return Some(Self::Archive(name.to_owned(), *format));
        }
        let weights = WEIGHTS.iter().any(|ending| has(ending));
        weights.then(|| Self::Weights(name.to_owned()))
    }
}

/// What is before an ending, in upper or lower case.
fn strip_ending<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(ending.len())?;
    let (stem, found) = (name.get(..at)?, name.get(at..)?);
    (!stem.is_empty() && found.eq_ignore_ascii_case(ending)).then_some(stem)
}

/// Whether a part of a path is a name and leads nowhere else.
fn is_plain(part: &str) -> bool {
    let printable = |letter: char| !letter.is_control() && letter != '\\';
    part != "." && part != ".." && part.chars().all(printable)
}

fn digest(text: &str) -> Result<String, String> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_hex {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "after {PIN} 64 hexadecimal digits are expected, as sha256sum prints them"
        )),
    }
}
