//! Finds the image files that arguments name.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use patchlight_imaging::{
    Error as ImageError,
    decode::{self, Format, Limits},
};

/// The files that were named, the images below the folders that were, and what patterns match, by
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
    let paths = glob::glob(text).map_err(|error| format!("{shown}: {error}"))?;
    let before = found.len();
    for path in paths {
        let path = path.map_err(|error| error.to_string())?;
        // `**` matches folders, too.
        if path.is_file() && (!is_of_macos(&path) || is_of_macos(pattern)) {
            found.push(path);
        }
    }
    match found.len() > before {
        true => Ok(()),
        false => Err(format!("{shown}: no file matches")),
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
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
        } else if !is_of_macos(&path) && may_be_read(&path) && is_image(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// What macOS leaves beside each file on other file systems: `._photo.jpg` holds no image.
fn is_of_macos(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b"._")
}

/// A pipe, a socket or a device gives no file: reading it may wait for ever. A file that cannot be
/// examined is left to the reader, who says why.
fn may_be_read(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

/// By its ending, whatever is in it; other files are looked into.
fn is_image(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    let mut known = Format::ALL.into_iter().flat_map(Format::extensions);
    known.any(|known| ending.eq_ignore_ascii_case(known)) || begins_as_one(path)
}

/// Whether a file begins with the signature of a format that is served.
fn begins_as_one(path: &Path) -> bool {
    const MAX_SIGNATURE_BYTES: u64 = 12;
    let mut start = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_SIGNATURE_BYTES).read_to_end(&mut start));
    let header = decode::peek(&start, &Limits::default());
    read.is_ok() && !matches!(header, Err(ImageError::UnsupportedFormat { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_by_ending_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let names = ["c.JPG", "a.png", "b/x.webp", "d.jfif", "e.Jpe", "notes.txt"];
        for name in names
            .into_iter()
            .chain(["._c.JPG", "b/._x.webp", ".DS_Store"])
        {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a.png", "b/x.webp", "c.JPG", "d.jfif", "e.Jpe"]);
    }

    /// As they come from a camera's app, a cache or a crawler: the ending is another or none.
    #[test]
    fn images_without_a_known_ending_are_found_by_their_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for (name, start) in [
            ("a", &b"\xff\xd8\xff\xe0\0\x10JFIF"[..]),
            ("b.jpg_large", b"\xff\xd8\xff"),
            ("c.tmp", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
            ("d.dat", b"RIFF\x24\0\0\0WEBPVP8 "),
            ("e.bin", b"GIF89a"),
            ("f.wav", b"RIFF\x24\0\0\0WAVEfmt "),
            ("g.txt", b"\xff\xd8"),
            ("h", b""),
        ] {
            fs::write(folder.path().join(name), start).unwrap();
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a", "b.jpg_large", "c.tmp", "d.dat", "e.bin"]);
    }

    /// Opening it would wait for a writer.
    #[cfg(unix)]
    #[test]
    fn a_pipe_or_a_socket_in_a_folder_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pipe.jpg", "pipe"] {
            let made = std::process::Command::new("mkfifo")
                .arg(folder.path().join(name))
                .status();
            assert!(made.unwrap().success());
        }
        let socket = folder.path().join("socket.jpg");
        let _socket = std::os::unix::net::UnixListener::bind(socket).unwrap();
        std::os::unix::fs::symlink("pipe.jpg", folder.path().join("link.jpg")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("broken.jpg")).unwrap();
        let found = find(&[folder.path().to_owned()]).unwrap();
        // What a broken link lacks is said when it is read.
        assert_eq!(found, [folder.path().join("broken.jpg")]);
    }

    #[test]
    fn what_macos_leaves_is_taken_only_if_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.jpg", "._a.jpg"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let [photo, left] = ["a.jpg", "._a.jpg"].map(|name| folder.path().join(name));
        assert_eq!(find(&[folder.path().join("*.jpg")]).unwrap(), [photo]);
        let asked = find(&[folder.path().join("._*")]).unwrap();
        assert_eq!(asked, std::slice::from_ref(&left));
        assert_eq!(find(std::slice::from_ref(&left)).unwrap(), [left]);
    }

    #[test]
    fn a_named_file_is_taken_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.bin");
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
            find(&["/no/such/image.jpg".into()])
                .unwrap_err()
                .contains("/no/such")
        );
    }
}
