//! One line of the file of API keys.
//!
//! ```text
//! KEY
//! NAME KEY
//! NAME KEY rate=10/s burst=20
//! ```

use sha2::{Digest, Sha256};

use super::{KeyDigest, quota::Quota};
use crate::secret_file::Flaw;

/// The shortest key that is taken: 16 characters are 64 bits even in hexadecimal.
const SHORTEST: usize = 16;

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// For the log; it is no secret.
    pub(super) name: Option<String>,
    pub(super) digest: KeyDigest,
    pub(super) quota: Option<Quota>,
}

impl Entry {
    /// Reads all lines; empty ones and comments are skipped.
    ///
    /// # Errors
    /// The number of a line and what is wrong with it, never the key itself; or that there is none.
    pub(super) fn read_all(text: &str) -> Result<Vec<Self>, Flaw> {
        let lines = text.lines().map(str::trim).zip(1..);
        let entries = lines
            .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, number)| {
                Self::read(line).map_err(|what| Flaw {
                    line: Some(number),
                    what,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        match entries.is_empty() {
            true => Err("there is no key in it".into()),
            false => Ok(entries),
        }
    }

    fn read(line: &str) -> Result<Self, &'static str> {
        let (mut rate, mut burst) = (None, None);
        let mut words = Vec::new();
        for word in line.split_whitespace() {
            if let Some(text) = word.strip_prefix("rate=") {
                rate = Some(per_second(text).ok_or("`rate=` wants a rate such as 10/s or 90/m")?);
            } else if let Some(text) = word.strip_prefix("burst=") {
                burst = Some(count(text).ok_or("`burst=` wants a number of at least 1")?);
            } else {
                words.push(word);
            }
        }
        let (name, key) = match words[..] {
            [key] => (None, key),
            [name, key] => (Some(name.to_owned()), key),
            _ => return Err("expected `[NAME] KEY [rate=10/s] [burst=20]`"),
        };
        if key.len() < SHORTEST {
            return Err("the key is shorter than 16 characters");
        }
        let quota = match (rate, burst) {
            (Some(rate), burst) => Some(Quota::new(rate, burst)),
            (None, None) => None,
            (None, Some(_)) => return Err("`burst=` without `rate=`"),
        };
        Ok(Self {
            name,
            digest: Sha256::digest(key).into(),
            quota,
        })
    }
}

fn per_second(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    (number > 0.0 && number.is_finite()).then(|| number / seconds)
}

fn count(text: &str) -> Option<f64> {
    let count: u32 = text.parse().ok()?;
    (count > 0).then(|| f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn one(line: &str) -> Result<Entry, Flaw> {
        Entry::read_all(line).map(|mut entries| entries.remove(0))
    }

    #[test]
    fn a_line_is_a_key_or_a_name_and_a_key_or_has_a_quota() {
        let bare = one(KEY).unwrap();
        assert_eq!((bare.name, bare.quota), (None, None));
        let named = one(&format!("  team-a   {KEY} ")).unwrap();
        assert_eq!(named.name.as_deref(), Some("team-a"));
        assert_eq!(named.digest, bare.digest);
        let limited = one(&format!("team-a {KEY} rate=90/m burst=20")).unwrap();
        let quota = limited.quota.unwrap();
        assert_eq!((quota.rate, quota.burst), (1.5, 20.0));
        let unnamed = one(&format!("{KEY} rate=0.5/s")).unwrap();
        assert_eq!(
            unnamed.quota,
            Some(Quota {
                rate: 0.5,
                burst: 1.0
            })
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for wrong in [
            "short",
            "0123456789abcdef rate=10",
            "0123456789abcdef rate=0/s",
            "0123456789abcdef rate=inf/s",
            "0123456789abcdef burst=20",
            "0123456789abcdef rate=1/s burst=0",
            "a 0123456789abcdef c",
        ] {
            let flaw = one(&format!("# comment\n\n{wrong}")).unwrap_err();
            assert_eq!(flaw.line, Some(3), "{wrong}");
        }
        assert!(one("# only a comment").is_err());
    }
}
