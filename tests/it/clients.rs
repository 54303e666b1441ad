//! Clients that others wrote, unmodified, against a running server: `tests/clients/`.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::process::{Server, models};

/// The interpreter of the environment that `venv.sh` installs; a printed reason where it cannot be
/// had. Under CI it always can.
pub(crate) fn python() -> Option<PathBuf> {
    let script = folder().join("venv.sh");
    let installed = Command::new("bash")
        .arg(script)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    if installed.status.success() {
        return Some(PathBuf::from(
            String::from_utf8(installed.stdout).unwrap().trim(),
        ));
    }
    let why = String::from_utf8_lossy(&installed.stderr);
    assert!(env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: tests/clients/requirements.txt could not be installed: {why}");
    None
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Runs a script of `tests/clients/` to its end.
pub(crate) fn run(python: &Path, script: &str, arguments: &[&str]) {
    let run = Command::new(python)
        .arg(folder().join(script))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("Python runs");
    assert!(
        run.status.success(),
        "{script} failed:\n{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
fn triton_s_own_client_finds_everything_as_the_protocol_says() {
    let Some(python) = python() else { return };
    let server = Server::demo();
    let samples = models("samples");
    let samples = samples.to_str().unwrap();
    run(&python, "oip.py", &[&server.address, "demo", samples]);
}
