//! What an import is kept under.

use std::fmt;

use patchlight_import::IMPORTER;
use patchlight_model::manifest::FORMAT;
use sha2::{Digest, Sha256};

use super::ImportChoice;
use crate::Source;

/// SHA-256 of everything that an import depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Key(String);

impl Key {
    /// Of what was asked for: a branch may lead to something else tomorrow.
    pub(super) fn of_source(source: &Source, choice: &ImportChoice) -> Self {
        Self::new("asked", source, "", choice)
    }

    /// Of one content for good, whatever it was asked for by.
    pub(super) fn of_content(source: &Source, revision: &str, choice: &ImportChoice) -> Self {
        Self::new("content", &source.without_revision(), revision, choice)
    }

    fn new(what: &str, source: &Source, revision: &str, choice: &ImportChoice) -> Self {
        let mut digest = Sha256::new();
        let checked = match &choice.check {
            None => "unchecked".to_owned(),
            Some(check) => format!("checked {:?}", check.min_agreement),
        };
        let parts = [
            what,
            &source.identity(),
            revision,
            IMPORTER,
            &FORMAT.to_string(),
            &choice.precision().to_string(),
            &checked,
        ];
        for part in parts {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        Self(hex::encode(digest.finalize()))
    }

    /// A model directory's name, which people may read.
    pub(super) fn directory_name(&self, model: &str) -> String {
        let short = self.0.get(..16).unwrap_or(&self.0);
        format!("{model}-{short}")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrecisionChoice;
    use patchlight_model::manifest::Precision;

    fn choice(precision: Precision) -> ImportChoice {
        ImportChoice {
            precision: PrecisionChoice::Fixed(precision),
            gpu: false,
            check: None,
        }
    }

    #[test]
    fn names_of_one_content_share_a_directory_and_no_others_do() {
        let source = |text| Source::parse(text).unwrap();
        let fp32 = choice(Precision::Fp32);
        let branch = Key::of_content(&source("hf://a/b"), "c1", &fp32);
        assert_eq!(branch, Key::of_content(&source("hf://a/b@v1"), "c1", &fp32));
        assert_ne!(branch, Key::of_content(&source("hf://a/b"), "c2", &fp32));
        assert_ne!(branch, Key::of_content(&source("hf://a/c"), "c1", &fp32));
        let fp16 = choice(Precision::Fp16);
        assert_ne!(branch, Key::of_content(&source("hf://a/b"), "c1", &fp16));
    }

    #[test]
    fn each_revision_that_is_asked_for_has_a_record_of_its_own() {
        let fp32 = choice(Precision::Fp32);
        let key = |text| Key::of_source(&Source::parse(text).unwrap(), &fp32);
        assert_eq!(key("hf://a/b"), key("hf://a/b@main"));
        assert_ne!(key("hf://a/b"), key("hf://a/b@v1"));
    }

    #[test]
    fn auto_is_what_it_comes_to() {
        let auto = ImportChoice {
            precision: PrecisionChoice::Auto,
            ..choice(Precision::Fp32)
        };
        let source = Source::parse("hf://a/b").unwrap();
        assert_eq!(
            Key::of_source(&source, &auto),
            Key::of_source(&source, &choice(Precision::Fp32))
        );
    }
}
