//! Logits and labels of the images that were run, in a file: every pass reads it again, and a run
//! that was interrupted goes on where it ended.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use patchlight_calibration::required::Part;

/// Bytes of the key that the file begins with.
const KEY: usize = 32;

/// What is right for an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// Nothing is known.
    Unknown,
    /// These classes, by rising number; one in a single-label model.
    Classes(Vec<usize>),
}

/// What a model made of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// SHA-256 of the image's bytes.
    pub digest: [u8; 32],
    /// What is right.
    pub truth: Truth,
    /// One for each class; none if the image could not be run.
    pub logits: Vec<f32>,
}

impl Record {
    /// What it is used for.
    pub fn part(&self) -> Part {
        Part::of(&self.digest)
    }
}

/// Records of equal length after a key that says of what.
///
/// `[key][digest 32][state 1][classes, a bit each][logits, 4 bytes each]…`
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    classes: usize,
    file: BufWriter<File>,
    count: usize,
}

/// The image could not be run.
const FAILED: u8 = 0;
/// Nothing is known of it.
const UNKNOWN: u8 = 1;
/// Its classes are known.
const KNOWN: u8 = 2;

impl Records {
    /// Opens the file, keeping what an interrupted run with the same key left.
    ///
    /// # Errors
    /// If it cannot be read or written, or another process does.
    pub fn open(path: PathBuf, key: [u8; KEY], classes: usize) -> io::Result<Self> {
        let len = record_len(classes) as u64;
        let mut count = 0;
        if let Ok(mut file) = File::open(&path) {
            let mut found = [0; KEY];
            if file.read_exact(&mut found).is_ok() && found == key {
                count = (file.metadata()?.len() - KEY as u64) / len;
            }
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another calibration is writing it"),
            TryLockError::Error(error) => error,
        })?;
        match count {
            0 => {
                file.set_len(0)?;
                file.write_all(&key)?;
            }
            // The last record may be torn.
            _ => file.set_len(KEY as u64 + count * len)?,
        }
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(Self {
            path,
            classes,
            file: BufWriter::new(file),
            count: count as usize,
        })
    }

    /// How many images are in it already.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds what was made of an image; `None` if it could not be run.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(
        &mut self,
        digest: [u8; 32],
        truth: &Truth,
        logits: Option<&[f32]>,
    ) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(record_len(self.classes));
        bytes.extend(digest);
        let mut holds = vec![0; self.classes.div_ceil(8)];
        bytes.push(match (logits, truth) {
            (None, _) => FAILED,
            (Some(_), Truth::Unknown) => UNKNOWN,
            (Some(_), Truth::Classes(classes)) => {
                classes
                    .iter()
                    .for_each(|class| holds[class / 8] |= 1 << (class % 8));
                KNOWN
            }
        });
        bytes.extend(holds);
        let logits = logits.unwrap_or_default();
        bytes.extend(logits.iter().flat_map(|value| value.to_le_bytes()));
        bytes.resize(record_len(self.classes), 0);
        self.file.write_all(&bytes)?;
        self.count += 1;
        Ok(())
    }

    /// All records but those of images that could not be run, from the file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<Record>> + use<>> {
        self.file.flush()?;
        let mut file = BufReader::with_capacity(1 << 20, File::open(&self.path)?);
        file.read_exact(&mut [0; KEY])?;
        let (mut left, classes) = (self.count, self.classes);
        Ok(std::iter::from_fn(move || {
            while left > 0 {
                left -= 1;
                let mut bytes = vec![0; record_len(classes)];
                if let Err(error) = file.read_exact(&mut bytes) {
                    left = 0;
                    return Some(Err(error));
                }
                if let Some(record) = parsed(&bytes, classes) {
                    return Some(Ok(record));
                }
            }
            None
        }))
    }

    /// Removes the file: what was measured is written elsewhere.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        drop(self.file);
        fs::remove_file(&self.path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn record_len(classes: usize) -> usize {
    32 + 1 + classes.div_ceil(8) + 4 * classes
}

/// None for an image that could not be run.
fn parsed(bytes: &[u8], classes: usize) -> Option<Record> {
    let (digest, rest) = bytes.split_first_chunk::<32>()?;
    let (state, rest) = rest.split_first()?;
    let (holds, logits) = rest.split_at(classes.div_ceil(8));
    let truth = match *state {
        KNOWN => {
            let held = (0..classes).filter(|class| holds[class / 8] >> (class % 8) & 1 == 1);
            Truth::Classes(held.collect())
        }
        UNKNOWN => Truth::Unknown,
        _ => return None,
    };
    let logits = logits.as_chunks().0.iter();
    Some(Record {
        digest: *digest,
        truth,
        logits: logits.map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_read_and_a_later_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let mut records = Records::open(path.clone(), [7; 32], 10).unwrap();
        let logits: Vec<f32> = (0..10_u8).map(f32::from).collect();
        let truth = Truth::Classes(vec![0, 9]);
        records.add([1; 32], &truth, Some(&logits)).unwrap();
        records.add([2; 32], &truth, None).unwrap();
        records
            .add([3; 32], &Truth::Unknown, Some(&logits))
            .unwrap();
        let read = |records: &mut Records| -> Vec<Record> {
            records.read().unwrap().map(Result::unwrap).collect()
        };
        let found = read(&mut records);
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0].truth, &found[0].logits), (&truth, &logits));
        assert_eq!(found[1].truth, Truth::Unknown);

        drop(records);
        // Torn in the middle of a record.
        let whole = fs::metadata(&path).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(whole - 3)
            .unwrap();
        let mut again = Records::open(path.clone(), [7; 32], 10).unwrap();
        assert_eq!(again.count(), 2);
        again.add([3; 32], &Truth::Unknown, Some(&logits)).unwrap();
        assert_eq!(read(&mut again), found);

        let busy = Records::open(path.clone(), [7; 32], 10).unwrap_err();
        assert!(busy.to_string().contains("another calibration"), "{busy}");
        drop(again);
        let other = Records::open(path, [8; 32], 10).unwrap();
        assert_eq!(other.count(), 0);
    }
}
