//! An import that is ended early leaves nothing.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Starts an import, waits until it has written something, and sends it a signal. What is left in
/// the folder that was to hold the model's directory.
fn interrupted(signal: &str, arguments: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut import = Command::new(env!("CARGO_BIN_EXE_patchlight"))
        .arg("import")
        .args(arguments)
        .arg("--out")
        .arg(folder.path().join("model"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while bytes_below(folder.path()) == 0 {
        assert!(import.try_wait().unwrap().is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    let id = import.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap()
            .success()
    );
    let status = import.wait().unwrap();
    let mut said = String::new();
    import
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted; nothing was written"), "{said}");
    let left = fs::read_dir(folder.path()).unwrap();
    left.map(|entry| entry.unwrap().path().display().to_string())
        .collect()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.path().is_dir() {
        true => bytes_below(&entry.path()),
        false => entry.metadata().map_or(0, |metadata| metadata.len()),
    });
    sizes.sum()
}

#[test]
fn interrupted_while_weights_are_written() {
    for signal in ["INT", "TERM"] {
        let left = interrupted(signal, &["--arch", "vit-b-16", "--random-weights"]);
        assert_eq!(left, [""; 0], "{signal}");
    }
}

/// Two model directories are there by then, and images are being compared.
#[test]
fn interrupted_while_precisions_are_compared() {
    let check = ["--precision", "int8", "--check", "models/samples"];
    let source = ["models/demo/checkpoint"];
    let left = interrupted("INT", &[&source[..], &check].concat());
    assert_eq!(left, [""; 0]);
}
