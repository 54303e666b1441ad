//! The images of a shard, one after the other: those that were named, then those of a list, which is
//! read as it is needed.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    vec,
};

use super::shard::Shard;

/// An iterator over paths, in an order that is the same in every run.
pub(super) struct Inputs {
    named: vec::IntoIter<PathBuf>,
    list: Option<io::Lines<Box<dyn BufRead + Send>>>,
    shard: Shard,
    next: u64,
}

impl Inputs {
    /// `list` is a file with a path a line, or `-` for standard input.
    ///
    /// # Errors
    /// When the list cannot be opened.
    pub(super) fn open(
        named: Vec<PathBuf>,
        list: Option<&Path>,
        shard: Shard,
    ) -> Result<Self, String> {
        let open = |path: &Path| -> Result<Box<dyn BufRead + Send>, String> {
            if path == Path::new("-") {
                return Ok(Box::new(BufReader::new(io::stdin())));
            }
            let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Box::new(BufReader::new(file)))
        };
        Ok(Self {
            named: named.into_iter(),
            list: list.map(open).transpose()?.map(BufRead::lines),
            shard,
            next: 0,
        })
    }

    /// The next image of all shards; empty lines of a list are none.
    fn next_of_all(&mut self) -> Option<io::Result<PathBuf>> {
        if let Some(path) = self.named.next() {
            return Some(Ok(path));
        }
        let lines = self.list.as_mut()?;
        lines
            .map(|line| line.map(|line| PathBuf::from(line.trim_end_matches('\r'))))
            .find(|line| !matches!(line, Ok(path) if path.as_os_str().is_empty()))
    }
}

impl Iterator for Inputs {
    type Item = io::Result<PathBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let path = self.next_of_all()?;
            let number = self.next;
            self.next += 1;
            // An error is everybody's.
            if path.is_err() || self.shard.takes(number) {
                return Some(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_list_follows_what_was_named_and_shards_go_round() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, "c\r\n\nd e\nf").unwrap();
        let of = |shard: &str| {
            let named = vec!["a".into(), "b".into()];
            let inputs = Inputs::open(named, Some(&list), shard.parse().unwrap()).unwrap();
            let paths = inputs.map(|path| path.unwrap().to_str().unwrap().to_owned());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(of("0/1"), ["a", "b", "c", "d e", "f"]);
        assert_eq!(of("0/2"), ["a", "c", "f"]);
        assert_eq!(of("1/2"), ["b", "d e"]);
    }

    #[test]
    fn a_list_that_is_not_there_is_named() {
        let shard = Shard { index: 0, count: 1 };
        let said = Inputs::open(Vec::new(), Some(Path::new("/no/list")), shard).err();
        assert!(said.unwrap().contains("/no/list"));
    }
}
