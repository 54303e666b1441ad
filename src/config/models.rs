//! Which models are served, and what they are called.

use std::path::PathBuf;

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
}

/// The first model and the others, or the demo if none is named. Two cannot have the same name.
pub(super) fn read(
    named: &[PathBuf],
    errors: &mut ConfigErrors,
) -> Option<(ModelSource, Vec<ModelSource>)> {
    let mut sources: Vec<ModelSource> = named.iter().cloned().map(ModelSource::new).collect();
    for (at, source) in sources.iter().enumerate() {
        if let Some(before) = sources[..at].iter().find(|other| other.name == source.name) {
            errors.add(
                "--model",
                format!(
                    "{} and {} are both called `{}`; rename one directory",
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
    fn two_of_one_name_are_a_fault() {
        assert_eq!(named(&["a/birds", "b/birds"]).1, 1);
        assert_eq!(named(&["a/birds", "b/fungi", "c/birds", "d/fungi"]).1, 2);
    }
}
