//! Which models are served, and what they are called.

use std::path::{Path, PathBuf};

use patchlight_model as model;

use super::{demo, errors::ConfigErrors};

/// A model to serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelSource {
    /// What clients call it.
    pub name: String,
    /// Where it lies.
    pub directory: PathBuf,
}

impl ModelSource {
    /// A model that is called by its directory's name.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            name: model::name_of(&directory),
            directory,
        }
    }

    /// Reads what was typed: `NAME=DIR`, or a directory that gives the name. A directory that is
    /// there is taken first, whatever its name looks like.
    fn parse(typed: &Path) -> Self {
        let text = typed.to_str().filter(|_| !typed.exists());
        match text.and_then(|text| text.split_once('=')) {
            Some((name, directory)) if is_model_name(name) => Self {
                name: name.to_owned(),
                directory: directory.into(),
            },
            _ => Self::new(typed.to_owned()),
        }
    }
}

/// Whether a model may be called so: a name becomes a part of URLs, a label of metrics and a word in
/// logs.
fn is_model_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

/// The first model and the others, or the demo if none is named. Two cannot have the same name.
pub(super) fn read(
    named: &[PathBuf],
    errors: &mut ConfigErrors,
) -> Option<(ModelSource, Vec<ModelSource>)> {
    let mut sources: Vec<ModelSource> = named
        .iter()
        .map(|typed| ModelSource::parse(typed))
        .collect();
    for (at, source) in sources.iter().enumerate() {
        if let Some(before) = sources[..at].iter().find(|other| other.name == source.name) {
            errors.add(
                "--model",
                format!(
                    "{} and {} are both called `{}`; give one another name, as in --model NAME=DIR",
                    before.directory.display(),
                    source.directory.display(),
                    source.name
                ),
            );
        }
    }
    if sources.is_empty() {
        let demo = errors.take("--model", demo::find())?;
        sources.push(ModelSource::new(demo));
    }
    let others = sources.split_off(1);
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
    fn the_first_is_the_default_and_directories_give_the_names() {
        let (models, errors) = named(&["a/birds", "b/plants/", "c/fungi"]);
        let (first, others) = models.unwrap();
        assert_eq!(first.name, "birds");
        let names: Vec<&str> = others.iter().map(|model| &*model.name).collect();
        assert_eq!((names, errors), (vec!["plants", "fungi"], 0));
    }

    #[test]
    fn a_name_may_be_given_and_a_directory_with_such_a_name_comes_first() {
        let (models, _) = named(&["birds=/mnt/models", "no name=/mnt/models"]);
        let (first, others) = models.unwrap();
        assert_eq!(
            (first.name.as_str(), first.directory),
            ("birds", "/mnt/models".into())
        );
        assert_eq!(others[0].directory, PathBuf::from("no name=/mnt/models"));
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("a=b");
        std::fs::create_dir(&there).unwrap();
        let source = ModelSource::parse(&there);
        assert_eq!((source.name.as_str(), source.directory), ("a=b", there));
    }

    #[test]
    fn two_of_one_name_are_a_fault() {
        assert_eq!(named(&["a/birds", "b/birds"]).1, 1);
        assert_eq!(named(&["a/birds", "b/fungi", "c/birds", "d/fungi"]).1, 2);
    }
}
