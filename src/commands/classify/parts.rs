//! Lines in parts: files that are there whole or not at all, so that a process that is killed has
//! lost the images of one part at most.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    num::NonZeroU64,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{inputs::Inputs, shard::Shard};

/// The ending of what is written.
const ENDING: &str = "jsonl";

/// Writes the parts of one shard, one after the other.
pub(super) struct Parts {
    folder: PathBuf,
    /// What the names of this shard's parts begin with.
    prefix: String,
    size: NonZeroU64,
    number: u64,
    open: Option<Part>,
}

/// A part that is being written.
struct Part {
    file: BufWriter<File>,
    path: PathBuf,
    lines: u64,
}

/// What an earlier run has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Done {
    pub(super) images: u64,
    pub(super) failed: u64,
}

/// What of a line tells whether a part belongs to this run.
#[derive(Deserialize)]
struct Written {
    file: PathBuf,
    model_digest: Option<String>,
    error: Option<String>,
}

impl Parts {
    /// For `FOLDER/NAME.jsonl`, of which this shard's parts are
    /// `FOLDER/NAME-INDEX-of-COUNT.NUMBER.jsonl`. Removes what a killed run has left unfinished.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or the name has another ending.
    pub(super) fn open(out: &Path, shard: Shard, size: NonZeroU64) -> Result<Self, String> {
        let stem = out.file_stem().and_then(|stem| stem.to_str());
        let ending = out.extension().and_then(|ending| ending.to_str());
        let (Some(stem), Some(ENDING)) = (stem, ending) else {
            return Err(format!(
                "{}: --out is a name such as results.{ENDING}",
                out.display()
            ));
        };
        let folder = match out.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let parts = Self {
            prefix: format!("{stem}-{:05}-of-{:05}.", shard.index, shard.count),
            folder,
            size,
            number: 0,
            open: None,
        };
        parts
            .clear()
            .map_err(|error| format!("{}: {error}", parts.folder.display()))?;
        Ok(parts)
    }

    fn clear(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let unfinished = self.unfinished_prefix();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&unfinished) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Passes over the images of the parts that are there, which must be those of `inputs` and of
    /// this model.
    ///
    /// # Errors
    /// When there are parts and `resume` is false, or they are of other images or another model.
    pub(super) fn resume(
        &mut self,
        resume: bool,
        inputs: &mut Inputs,
        model_digest: &str,
    ) -> Result<Done, String> {
        let mut done = Done::default();
        while self.path().exists() {
            let path = self.path();
            let shown = path.display();
            if !resume {
                return Err(format!(
                    "{shown} is there already: --resume goes on behind it, another --out begins anew"
                ));
            }
            let file = File::open(&path).map_err(|error| format!("{shown}: {error}"))?;
            for line in BufReader::new(file).lines() {
                let line = line.map_err(|error| format!("{shown}: {error}"))?;
                let written: Written =
                    serde_json::from_str(&line).map_err(|error| format!("{shown}: {error}"))?;
                let expected = inputs
                    .next()
                    .transpose()
                    .map_err(|error| error.to_string())?;
                if expected.as_ref() != Some(&written.file) {
                    let expected = expected.map_or_else(
                        || "no more images".to_owned(),
                        |path| path.display().to_string(),
                    );
                    return Err(format!(
                        "{shown} is of other images: it has {}, now there is {expected}",
                        written.file.display()
                    ));
                }
                if written.model_digest.as_deref() != Some(model_digest) {
                    return Err(format!("{shown} is of another model"));
                }
                done.images += 1;
                done.failed += u64::from(written.error.is_some());
            }
            self.number += 1;
        }
        Ok(done)
    }

    /// Adds an image's line, which has its end.
    pub(super) fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let mut part = match self.open.take() {
            Some(part) => part,
            None => self.begin()?,
        };
        part.file.write_all(line)?;
        part.lines += 1;
        let is_full = part.lines >= self.size.get();
        self.open = Some(part);
        if is_full {
            self.complete()?;
        }
        Ok(())
    }

    /// Completes the last part.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.complete()
    }

    fn begin(&self) -> io::Result<Part> {
        let random = getrandom::u64().map_err(io::Error::other)?;
        let name = format!("{}{random:016x}", self.unfinished_prefix());
        let path = self.folder.join(name);
        Ok(Part {
            file: BufWriter::new(File::create_new(&path)?),
            path,
            lines: 0,
        })
    }

    /// On the disk first, then under its name.
    fn complete(&mut self) -> io::Result<()> {
        let Some(part) = self.open.take() else {
            return Ok(());
        };
        part.file.into_inner()?.sync_all()?;
        fs::rename(&part.path, self.path())?;
        self.number += 1;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        let name = format!("{}{:06}.{ENDING}", self.prefix, self.number);
        self.folder.join(name)
    }

    fn unfinished_prefix(&self) -> String {
        format!(".{}unfinished-", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Shard = Shard { index: 0, count: 1 };

    fn parts(folder: &Path, size: u64) -> Parts {
        let size = NonZeroU64::new(size).unwrap();
        Parts::open(&folder.join("out.jsonl"), ALL, size).unwrap()
    }

    fn inputs(names: &[&str]) -> Inputs {
        let named = names.iter().map(PathBuf::from).collect();
        Inputs::open(named, None, ALL).unwrap()
    }

    fn line(name: &str, model: &str) -> Vec<u8> {
        format!("{{\"file\":\"{name}\",\"model_digest\":\"{model}\"}}\n").into_bytes()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_part_is_there_when_it_is_full_or_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = parts(folder.path(), 2);
        for name in ["a", "b", "c"] {
            writer.add(&line(name, "m")).unwrap();
        }
        let whole = "out-00000-of-00001.000000.jsonl";
        assert_eq!(names(folder.path()).last().unwrap(), whole);
        writer.finish().unwrap();
        let expected = [whole, "out-00000-of-00001.000001.jsonl"];
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn a_killed_run_goes_on_behind_its_last_whole_part() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = parts(folder.path(), 2);
        for name in ["a", "b", "c"] {
            writer.add(&line(name, "m")).unwrap();
        }
        drop(writer);
        let mut writer = parts(folder.path(), 2);
        assert_eq!(names(folder.path()).len(), 1);
        let mut inputs = inputs(&["a", "b", "c", "d"]);
        let done = writer.resume(true, &mut inputs, "m").unwrap();
        assert_eq!(
            done,
            Done {
                images: 2,
                failed: 0
            }
        );
        assert_eq!(inputs.next().unwrap().unwrap(), Path::new("c"));
    }

    #[test]
    fn parts_of_others_and_parts_without_resume_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = parts(folder.path(), 1);
        writer.add(&line("a", "m")).unwrap();
        writer.finish().unwrap();
        let said = |resume, names: &[&str], model| {
            let mut writer = parts(folder.path(), 1);
            writer
                .resume(resume, &mut inputs(names), model)
                .unwrap_err()
        };
        assert!(said(false, &["a"], "m").contains("--resume"));
        assert!(said(true, &["b"], "m").contains("other images"));
        assert!(said(true, &[], "m").contains("no more images"));
        assert!(said(true, &["a"], "n").contains("another model"));
    }

    #[test]
    fn another_ending_is_refused() {
        let size = NonZeroU64::MIN;
        for out in ["out", "out.csv", "folder/"] {
            assert!(Parts::open(Path::new(out), ALL, size).is_err(), "{out}");
        }
    }
}
