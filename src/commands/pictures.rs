//! Which files are meant.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Endings that are looked for inside folders; a file that is named is taken whatever its name.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "gif"];

/// The files that were named, and the pictures below the folders that were, by name.
pub(super) fn find(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in named {
        if path.is_dir() {
            walk(path, &mut found)?;
        } else if path.exists() {
            found.push(path.clone());
        } else {
            return Err(format!(
                "{}: there is no such file or folder",
                path.display()
            ));
        }
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |why: std::io::Error| format!("{}: {why}", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?);
    }
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // The entry's own type: links to folders are not followed, so there is no endless round.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, found)?;
        } else if is_picture(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    ENDINGS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_by_ending_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.JPG", "a.png", "b/x.webp", "notes.txt"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a.png", "b/x.webp", "c.JPG"]);
    }

    #[test]
    fn a_named_file_is_taken_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.bin");
        fs::write(&path, b"").unwrap();
        assert_eq!(find(std::slice::from_ref(&path)).unwrap(), [path]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(
            find(&["/no/such/picture.jpg".into()])
                .unwrap_err()
                .contains("/no/such")
        );
    }
}
