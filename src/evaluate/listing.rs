//! The listing: images, their right names, and where their object lies.
//!
//! A JSON array of objects, in the form of `models/samples/samples.json`:
//!
//! ```json
//! [{"file": "dog.jpg", "class_id": 0, "box": [220, 75, 537, 361], "mask": "dog-mask.png"}]
//! ```
//!
//! `file` and `mask` are relative to the listing. `box` is left, top, right, bottom in pixels of
//! the upright image. `mask`, if there is one, is an image of the same size that is white on the
//! object. `class_id` may be absent. Other fields are ignored.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Images whose object's position is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing(pub Vec<ListedImage>);

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedImage {
    /// Its place in the listing.
    pub number: usize,
    /// The image.
    pub path: PathBuf,
    /// Its right class, if known.
    pub class: Option<usize>,
    /// Left, top, right and bottom, in pixels of the upright image.
    pub bounds: [f64; 4],
    /// An image of the same size, white on the object.
    pub mask: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Entry {
    file: PathBuf,
    class_id: Option<usize>,
    r#box: [f64; 4],
    mask: Option<PathBuf>,
}

impl Listing {
    /// Reads a listing, or the only one (`*.json`) of a folder.
    ///
    /// # Errors
    /// What is wrong, beginning with the path.
    pub fn read(path: &Path) -> Result<Self, String> {
        let path = match path.is_dir() {
            true => only_listing(path)?,
            false => path.to_owned(),
        };
        let with_path = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read(&path).map_err(|error| with_path(&error))?;
        let entries: Vec<Entry> =
            serde_json::from_slice(&text).map_err(|error| with_path(&error))?;
        if entries.is_empty() {
            return Err(with_path(&"it lists no images"));
        }
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let listed = entries.into_iter().enumerate().map(|(number, entry)| {
            let [left, top, right, bottom] = entry.r#box;
            if !(right > left && bottom > top) {
                let file = entry.file.display();
                return Err(with_path(&format!(
                    "{file}: a box is [left, top, right, bottom] and has an area"
                )));
            }
            Ok(ListedImage {
                number,
                path: folder.join(entry.file),
                class: entry.class_id,
                bounds: entry.r#box,
                mask: entry.mask.map(|mask| folder.join(mask)),
            })
        });
        Ok(Self(listed.collect::<Result<_, _>>()?))
    }
}

fn only_listing(folder: &Path) -> Result<PathBuf, String> {
    let with_path = |error: String| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(|error| with_path(error.to_string()))?;
    let mut listings = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    match (listings.next(), listings.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(with_path("there is no listing (*.json) in it".to_owned())),
        _ => Err(with_path(
            "there are several *.json in it; name one".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, Result<Listing, String>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("list.json"), text).unwrap();
        let listing = Listing::read(folder.path());
        (folder, listing)
    }

    #[test]
    fn paths_are_relative_to_the_listing_and_other_fields_do_not_matter() {
        let (folder, listing) = written(
            r#"[{"file": "a.jpg", "box": [1, 2, 3.5, 4], "artist": "noto", "class_id": 7},
                {"file": "b.png", "box": [0, 0, 1, 1], "mask": "m/b.png"}]"#,
        );
        let Listing(listed) = listing.unwrap();
        assert_eq!(listed[0].path, folder.path().join("a.jpg"));
        assert_eq!(
            (listed[0].class, listed[0].bounds),
            (Some(7), [1.0, 2.0, 3.5, 4.0])
        );
        assert_eq!(listed[1].mask, Some(folder.path().join("m/b.png")));
        assert_eq!((listed[1].number, listed[1].class), (1, None));
    }

    #[test]
    fn an_empty_listing_and_a_box_without_area_are_refused() {
        assert!(written("[]").1.unwrap_err().contains("no images"));
        let flat = r#"[{"file": "a.jpg", "box": [3, 0, 3, 1]}]"#;
        assert!(written(flat).1.unwrap_err().contains("a.jpg"));
    }

    #[test]
    fn a_folder_has_one_listing_or_is_asked_which() {
        let (folder, _) = written("[]");
        fs::write(folder.path().join("other.json"), "[]").unwrap();
        let error = Listing::read(folder.path()).unwrap_err();
        assert!(error.contains("several"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(Listing::read(empty.path()).is_err());
    }
}
