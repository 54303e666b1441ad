//! Which models are served, and what they are called.

use std::path::{Path, PathBuf};

use patchlight_sources::{AddressError, Source};

use super::{demo, errors::ConfigErrors};

/// The longest name that a model may have.
pub const MAX_NAME_LENGTH: usize = 64;

/// A model to serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelSource {
    /// What clients call it.
    pub name: String,
    /// Where it is.
    pub source: Source,
}

impl ModelSource {
    /// Reads what was typed: `NAME=SOURCE`, or a source that names the model itself, by the last
    /// part of its path. A directory that is there is taken first, whatever its name looks like.
    ///
    /// # Errors
    /// If it is no source.
    pub fn parse(typed: &Path) -> Result<Self, AddressError> {
        // A path that is no text is no address either.
        let Some(text) = typed.to_str().filter(|_| !typed.exists()) else {
            return Ok(Self::new(Source::Local(typed.to_owned())));
        };
        match text.split_once('=') {
            Some((name, source)) if is_model_name(name) => Ok(Self {
                name: name.to_owned(),
                source: Source::parse(source)?,
            }),
            _ => Ok(Self::new(Source::parse(text)?)),
        }
    }

    fn new(source: Source) -> Self {
        Self {
            name: source.model_name(),
            source,
        }
    }
}

/// Whether a model may be called so: a name becomes a part of URLs, a label of metrics and a word in
/// logs.
pub fn is_model_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME_LENGTH).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

/// The first model and the others, or the demo if none is named. Two cannot have the same name.
pub(super) fn read(
    named: &[PathBuf],
    errors: &mut ConfigErrors,
) -> Option<(ModelSource, Vec<ModelSource>)> {
    let mut sources: Vec<ModelSource> = Vec::new();
    for typed in named {
        let Some(source) = errors.take("--model", ModelSource::parse(typed)) else {
            continue;
        };
        if let Some(before) = sources.iter().find(|other| other.name == source.name) {
            errors.add(
                "--model",
                format!(
                    "{} and {} are both called `{}`; give one another name, as in \
                     --model NAME={}",
                    before.source, source.source, source.name, source.source
                ),
            );
        }
        sources.push(source);
    }
    if named.is_empty() {
        let demo = errors.take("--model", demo::find())?;
        sources.push(ModelSource::new(Source::Local(demo)));
    }
    let others = sources.split_off(1.min(sources.len()));
    Some((sources.pop()?, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(directories: &[&str]) -> (Option<(ModelSource, Vec<ModelSource>)>, usize) {
        let paths: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
        let mut errors = ConfigErrors::default();
        let models = read(&paths, &mut errors);
        let errors = errors.into_result(None::<()>).unwrap_err().to_string();
        (models, errors.lines().count())
    }

    #[test]
    fn the_first_is_the_default_and_sources_give_the_names() {
        let (models, errors) = named(&[
            "./a/birds",
            "./b/plants/",
            "hf://org/fungi@v1",
            "x=hf://o/y",
        ]);
        let (first, others) = models.unwrap();
        assert_eq!(first.name, "birds");
        let names: Vec<&str> = others.iter().map(|model| &*model.name).collect();
        assert_eq!((names, errors), (vec!["plants", "fungi", "x"], 0));
    }

    #[test]
    fn two_of_one_name_are_a_fault_unless_one_gets_another() {
        assert_eq!(named(&["./a/birds", "./b/birds"]).1, 1);
        assert_eq!(named(&["./a/birds", "hf://b/birds"]).1, 1);
        assert_eq!(named(&["./a/birds", "more=./b/birds"]).1, 0);
        assert_eq!(
            named(&["./a/birds", "./b/fungi", "./c/birds", "./d/fungi"]).1,
            2
        );
    }

    #[test]
    fn what_is_no_name_before_an_equals_sign_belongs_to_the_path() {
        let (models, _) = named(&["/data/run=5/vit"]);
        let (first, _) = models.unwrap();
        assert_eq!(first.source, Source::Local("/data/run=5/vit".into()));
        assert_eq!(first.name, "vit");
    }

    #[test]
    fn every_address_that_is_none_is_a_fault() {
        assert_eq!(named(&["hf://x", "ftp://a/b", "./a"]).1, 2);
    }

    #[test]
    fn names_are_plain_words() {
        for name in ["demo", "vit-l_16.v2", "0", &"a".repeat(64)] {
            assert!(is_model_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a b",
            "ä",
            "a\n",
            &"a".repeat(65),
        ] {
            assert!(!is_model_name(name), "{name}");
        }
    }
}
