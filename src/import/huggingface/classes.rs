//! `config.json`: what classes mean. Every classifier of transformers says it in these fields, whatever
//! its network.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    import::{ImportError, error::quoted, small_file::json},
    model::manifest::TaskKind,
};

/// The classes that a `config.json` describes.
#[derive(Debug)]
pub(super) struct Classes {
    path: PathBuf,
    fields: Fields,
}

#[derive(Debug, Deserialize)]
struct Fields {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    id2label: Option<BTreeMap<String, String>>,
    label2id: Option<BTreeMap<String, Id>>,
    problem_type: Option<String>,
}

/// A class, as a number or its digits.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(usize),
    Digits(String),
}

impl Id {
    fn class(&self) -> Option<usize> {
        match self {
            Self::Number(class) => Some(*class),
            Self::Digits(text) => text.parse().ok(),
        }
    }
}

impl Classes {
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        Ok(Self {
            path: path.to_owned(),
            fields: json(path)?,
        })
    }

    /// Name of the network's class, or else of its family.
    pub(super) fn architecture(&self) -> Option<&str> {
        let classes = self.fields.architectures.as_deref().unwrap_or_default();
        let family = self.fields.model_type.as_ref();
        classes.first().or(family).map(String::as_str)
    }

    /// The labels in the order of their classes: `id2label`, or else `label2id` the other way round. A
    /// file without both has transformers' own names for them, `LABEL_0` and so on.
    pub(super) fn labels(&self, classes: usize) -> Result<Vec<String>, ImportError> {
        match (&self.fields.id2label, &self.fields.label2id) {
            (Some(by_id), _) => self.in_order("id2label", by_id, classes),
            (None, Some(ids)) => self.in_order("label2id", &self.inverted(ids)?, classes),
            (None, None) => Ok((0..classes).map(|class| format!("LABEL_{class}")).collect()),
        }
    }

    fn inverted(
        &self,
        ids: &BTreeMap<String, Id>,
    ) -> Result<BTreeMap<String, String>, ImportError> {
        let mut by_id = BTreeMap::new();
        for (label, id) in ids {
            let Some(class) = id.class() else {
                let detail = format!("gives `{}` no whole number", quoted(label));
                return Err(self.field("label2id", detail));
            };
            if let Some(other) = by_id.insert(class.to_string(), label.clone()) {
                let detail = format!(
                    "gives class {class} to both `{}` and `{}`",
                    quoted(&other),
                    quoted(label)
                );
                return Err(self.field("label2id", detail));
            }
        }
        Ok(by_id)
    }

    fn in_order(
        &self,
        field: &'static str,
        by_id: &BTreeMap<String, String>,
        classes: usize,
    ) -> Result<Vec<String>, ImportError> {
        if by_id.len() > classes {
            let detail = format!(
                "has {} labels, but the classifier has {classes} classes",
                by_id.len()
            );
            return Err(self.field(field, detail));
        }
        let label = |class: usize| {
            by_id.get(&class.to_string()).cloned().ok_or_else(|| {
                let detail = format!(
                    "has no label for class {class} of {classes}; give labels with --labels FILE"
                );
                self.field(field, detail)
            })
        };
        (0..classes).map(label).collect()
    }

    /// Whether classes exclude each other. A single class has none to exclude: transformers'
    /// pipeline gives it a sigmoid, too.
    pub(super) fn task(&self, classes: usize) -> Result<TaskKind, ImportError> {
        match self.fields.problem_type.as_deref() {
            None | Some("single_label_classification") if classes == 1 => Ok(TaskKind::MultiLabel),
            None | Some("single_label_classification") => Ok(TaskKind::SingleLabel),
            Some("multi_label_classification") => Ok(TaskKind::MultiLabel),
            Some(other) => {
                let detail = format!(
                    "is \"{other}\"; this program serves single_label_classification and multi_label_classification"
                );
                Err(self.field("problem_type", detail))
            }
        }
    }

    fn field(&self, name: &'static str, detail: String) -> ImportError {
        ImportError::field(&self.path, name, detail)
    }
}
