//! The images to calibrate on: folders that are named by labels, a listing, or images alone.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use patchlight_model::{ModelInfo, manifest::TaskKind};
use serde::Deserialize;

use super::Truth;
use crate::images;

/// Images with what is known of them, in a fixed order.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The images.
    pub images: Vec<LabelledImage>,
}

/// An image and its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledImage {
    /// Where it lies.
    pub path: PathBuf,
    /// What is right for it.
    pub truth: Truth,
}

/// An entry of a listing: a class or label, or, of a multi-label model, several.
#[derive(Deserialize)]
struct Entry {
    file: PathBuf,
    class_id: Option<usize>,
    label: Option<String>,
    class_ids: Option<Vec<usize>>,
    labels: Option<Vec<String>>,
}

impl Dataset {
    /// Reads a folder or a JSON listing.
    ///
    /// The images of a folder lie in folders that are named by a label or a class's number. If none
    /// of its folders is, they have no labels. A listing is an array of `{"file", "class_id"}` or
    /// `{"file", "label"}`, or of `{"file", "class_ids"}` or `{"file", "labels"}` for a multi-label
    /// model; files are relative to it.
    ///
    /// # Errors
    /// What is wrong, beginning with the path.
    pub fn read(path: &Path, model: &ModelInfo) -> Result<Self, String> {
        let images = match path.is_dir() {
            true => of_folder(path, model)?,
            false => of_listing(path, model)?,
        };
        match images.is_empty() {
            true => Err(format!("{}: there are no images in it", path.display())),
            false => Ok(Self { images }),
        }
    }

    /// Images without labels: those of a folder, of a file, or that a pattern matches.
    ///
    /// # Errors
    /// What is wrong, beginning with the path.
    pub fn without_labels(path: &Path) -> Result<Self, String> {
        let found = images::find(&[path.to_owned()])?;
        Ok(Self {
            images: unlabelled(found),
        })
    }
}

fn unlabelled(paths: Vec<PathBuf>) -> Vec<LabelledImage> {
    let image = |path| LabelledImage {
        path,
        truth: Truth::Unknown,
    };
    paths.into_iter().map(image).collect()
}

fn of_folder(folder: &Path, model: &ModelInfo) -> Result<Vec<LabelledImage>, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    let classes = classes_by_name(model);
    let class = |folder: &PathBuf| {
        let name = folder.file_name()?.to_str()?;
        let number = || name.parse().ok().filter(|&id| id < classes.len());
        classes.get(name).copied().or_else(number)
    };
    let (named, other): (Vec<_>, Vec<_>) = folders.iter().partition(|path| class(path).is_some());
    if named.is_empty() {
        return Ok(unlabelled(images::find(&[folder.to_owned()])?));
    }
    if let Some(other) = other.first() {
        return Err(format!(
            "{}: it is neither a label of the model nor the number of a class, as other folders \
             beside it are; `patchlight inspect` shows where the labels are",
            other.display()
        ));
    }
    let mut found = Vec::new();
    for folder in named {
        let Some(class) = class(folder) else { continue };
        let paths = images::find(std::slice::from_ref(folder))?;
        found.extend(paths.into_iter().map(|path| LabelledImage {
            path,
            truth: Truth::Classes(vec![class]),
        }));
    }
    Ok(found)
}

fn of_listing(path: &Path, model: &ModelInfo) -> Result<Vec<LabelledImage>, String> {
    let with_path = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(path).map_err(|error| with_path(&error))?;
    let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(|error| with_path(&error))?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let classes = classes_by_name(model);
    let several = model.manifest.task.kind == TaskKind::MultiLabel;
    let image = |entry: Entry| {
        let file = entry.file.display().to_string();
        let known = entry.class_ids.is_some()
            || entry.labels.is_some()
            || entry.class_id.is_some()
            || entry.label.is_some();
        let labels = entry.labels.into_iter().flatten().chain(entry.label);
        let mut ids: Vec<usize> = entry.class_ids.unwrap_or_default();
        ids.extend(entry.class_id);
        for label in labels {
            let id = classes.get(label.as_str()).copied();
            ids.push(id.ok_or_else(|| with_path(&format!("{file}: `{label}` is no label")))?);
        }
        if let Some(id) = ids.iter().find(|&&id| id >= model.manifest.task.classes) {
            return Err(with_path(&format!("{file}: there is no class {id}")));
        }
        ids.sort_unstable();
        ids.dedup();
        if known && !several && ids.len() != 1 {
            let detail = format!("{file}: an image of a single-label model has one class");
            return Err(with_path(&detail));
        }
        Ok(LabelledImage {
            path: folder.join(entry.file),
            truth: match known {
                true => Truth::Classes(ids),
                false => Truth::Unknown,
            },
        })
    };
    entries.into_iter().map(image).collect()
}

fn classes_by_name(model: &ModelInfo) -> HashMap<&str, usize> {
    let ids = 0..model.manifest.task.classes;
    // Of equal labels the first: they cannot be told apart by name.
    ids.rev().map(|id| (model.labels.name(id), id)).collect()
}
