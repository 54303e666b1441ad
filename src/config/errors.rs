//! Collects configuration errors, so that all are reported at once.

use std::{fmt, num::NonZeroUsize, str::FromStr, time::Duration};

use crate::args::SettingSources;

/// Everything that is wrong with a configuration.
#[derive(Debug, Eq, PartialEq)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Collects errors while flags are parsed.
#[derive(Debug, Default)]
pub struct ConfigErrors {
    messages: Vec<String>,
    sources: SettingSources,
}

impl ConfigErrors {
    /// Starts with the errors of the settings file, and names flags by their source.
    pub(super) fn new(sources: &SettingSources) -> Self {
        Self {
            messages: sources.errors.clone(),
            sources: sources.clone(),
        }
    }

    pub(super) fn add(&mut self, flag: &str, what: impl fmt::Display) {
        let origin = self.sources.origin(flag);
        self.messages.push(format!("{origin}: {what}"));
    }

    /// The value, or `None` with its error recorded.
    pub fn take<T>(&mut self, flag: &str, read: Result<T, impl fmt::Display>) -> Option<T> {
        read.map_err(|error| self.add(flag, error)).ok()
    }

    /// Anything that reads from text.
    pub(super) fn parse<T: FromStr>(
        &mut self,
        flag: &str,
        text: &str,
        expected: &str,
    ) -> Option<T> {
        self.take(
            flag,
            text.parse()
                .map_err(|_| format!("`{text}` is not {expected}")),
        )
    }

    /// A number of at least 1.
    pub(super) fn count(&mut self, flag: &str, text: &str) -> Option<NonZeroUsize> {
        self.parse(flag, text, "a number of at least 1")
    }

    /// Such as `500ms`, `10s`, `1h`.
    pub(super) fn duration(&mut self, flag: &str, text: &str) -> Option<Duration> {
        let read = humantime::parse_duration(text);
        self.take(
            flag,
            read.map_err(|_| format!("`{text}` is not a duration such as 500ms, 10s or 1h")),
        )
    }

    /// Such as `10MiB`, in bytes.
    pub(super) fn size(&mut self, flag: &str, text: &str) -> Option<u64> {
        let read: Result<bytesize::ByteSize, _> = text.parse();
        match read {
            Ok(size) if size.as_u64() > 0 => Some(size.as_u64()),
            _ => {
                self.add(
                    flag,
                    format!("`{text}` is not a size such as 512KiB or 10MiB"),
                );
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        flag: &str,
        text: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.add(flag, format!("`{text}` is not one of {}", all.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// The configuration, if nothing was wrong.
    pub(super) fn into_result<T>(self, config: Option<T>) -> Result<T, ConfigError> {
        match config {
            Some(config) if self.messages.is_empty() => Ok(config),
            _ => Err(ConfigError(self.messages)),
        }
    }
}
