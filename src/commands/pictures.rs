//! Which files are meant.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Endings that are looked for inside folders; a file that is named is taken whatever its name.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "gif"];

/// The files that were named, the pictures below the folders that were, and what patterns match, by
/// name. A file whose name looks like a pattern is that file.
pub(super) fn find(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in named {
        if path.is_dir() {
            walk(path, &mut found)?;
        } else if path.exists() {
            found.push(path.clone());
        } else {
            matching(path, &mut found)?;
        }
    }
    Ok(found)
}

/// The files that a pattern matches.
fn matching(pattern: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let shown = pattern.display();
    let nothing = || format!("{shown}: there is no such file or folder");
    let text = pattern.to_str().ok_or_else(nothing)?;
    if !text.contains(['*', '?', '[']) {
        return Err(nothing());
    }
    let paths = glob::glob(text).map_err(|why| format!("{shown}: {why}"))?;
    let before = found.len();
    for path in paths {
        let path = path.map_err(|why| why.to_string())?;
        // `**` matches folders, too.
        if path.is_file() {
            found.push(path);
        }
    }
    match found.len() > before {
        true => Ok(()),
        false => Err(format!("{shown}: no file matches")),
    }
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
    fn patterns_match_files_in_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        for name in ["a/x.jpg", "a/y.png", "z.jpg", "[1].jpg"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let found = |pattern: &str| {
            let found = find(&[folder.path().join(pattern)])?;
            let names = found
                .iter()
                .map(|path| path.strip_prefix(folder.path()).unwrap());
            let names = names.map(|name| name.to_str().unwrap().to_owned());
            Ok::<Vec<String>, String>(names.collect())
        };
        assert_eq!(found("**/*.jpg").unwrap(), ["[1].jpg", "a/x.jpg", "z.jpg"]);
        assert_eq!(found("a/?.png").unwrap(), ["a/y.png"]);
        // A file of this name comes before the pattern.
        assert_eq!(found("[1].jpg").unwrap(), ["[1].jpg"]);
        assert!(found("*.gif").unwrap_err().contains("no file matches"));
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
