//! The images that are sent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::Result;

const EXTENSIONS: [&str; 5] = ["gif", "jpeg", "jpg", "png", "webp"];

/// Reads files as they are given, and folders in order of name, without their subfolders.
///
/// # Errors
/// When a path cannot be read, or a folder holds no image by its extension.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Vec<Bytes>> {
    let mut images = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in in_folder(path)? {
                images.push(read(&file)?);
            }
        } else {
            images.push(read(path)?);
        }
    }
    Ok(images)
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e| format!("{} could not be read: {e}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().map(|e| e.to_ascii_lowercase());
        if path.is_file()
            && EXTENSIONS
                .iter()
                .any(|known| extension.as_deref().is_some_and(|e| e == *known))
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(format!(
            "{} holds no image ({})",
            folder.display(),
            EXTENSIONS.join(", ")
        )
        .into());
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Bytes> {
    let bytes = fs::read(path).map_err(|e| format!("{} could not be read: {e}", path.display()))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_images_by_name_and_leaves_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("b.PNG", "2"),
            ("a.jpg", "1"),
            ("notes.txt", "no"),
            ("c.webp", "3"),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        fs::create_dir(folder.path().join("d.jpg")).unwrap();
        assert_eq!(load(&[folder.path().to_owned()]).unwrap(), ["1", "2", "3"]);
    }

    #[test]
    fn a_folder_without_images_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains(&folder.path().display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_file_given_by_name_is_taken_whatever_its_extension() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.bin");
        fs::write(&path, "x").unwrap();
        assert_eq!(load(&[path]).unwrap(), ["x"]);
    }
}
