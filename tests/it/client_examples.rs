//! Clients that others wrote, unmodified, against a running server: `tests/clients/`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    external_services::{has, skip},
    process::{Server, models, program},
};

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
    let error = String::from_utf8_lossy(&installed.stderr);
    skip(&format!(
        "tests/clients/requirements.txt cannot be installed: {error}"
    ));
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

/// Runs a program of `docs/clients/` as its page says; what it printed.
fn example(program: &Path, name: &str, server: &Server, arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = Command::new(program)
        .arg(root.join("docs/clients").join(name))
        .args(arguments)
        .env("PATCHLIGHT", format!("http://{}", server.address))
        .env("MPLBACKEND", "agg")
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .expect("the example runs");
    let printed = String::from_utf8_lossy(&run.stdout).into_owned();
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}:\n{printed}{error}");
    printed
}

#[test]
fn the_curl_example_works() {
    let server = Server::demo();
    let printed = example(Path::new("bash"), "curl.sh", &server, &[]);
    assert!(
        printed.contains("penguin") && printed.contains("\"values\":[0."),
        "{printed}"
    );
    assert!(printed.contains("\"results\""), "{printed}");
}

#[test]
fn the_python_examples_work() {
    let Some(python) = python() else { return };
    let server = Server::demo();
    let printed = example(&python, "classify.py", &server, &[]);
    assert!(printed.contains("1.000000 of the attention"), "{printed}");
    assert!(printed.contains("refused: unsupported_format"), "{printed}");

    let printed = example(&python, "triton.py", &server, &[]);
    assert!(
        printed.contains(":penguin") && printed.contains(":rocket"),
        "{printed}"
    );

    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.png");
    example(
        &python,
        "walkthrough.py",
        &server,
        &[plot.to_str().unwrap()],
    );
    assert!(std::fs::read(plot).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn the_javascript_example_works() {
    if !has("node") {
        return;
    }
    let server = Server::demo();
    let printed = example(Path::new("node"), "classify.mjs", &server, &[]);
    assert!(
        printed.contains("penguin") && printed.contains("PNG"),
        "{printed}"
    );
}

/// Runs `tests/clients/openapi.py`, which says what it checks.
#[test]
fn the_server_is_as_its_openapi_document_says() {
    let Some(python) = python() else { return };
    // Half of the requests come while the machine does something else.
    let server = Server::start(&[
        "--drain-delay",
        "200ms",
        "--request-timeout",
        "2m",
        "--allow-verify",
    ]);
    run(&python, "openapi.py", &[&server.address]);
}

#[test]
fn the_admin_listener_is_as_its_openapi_document_says() {
    let Some(python) = python() else { return };
    let key = "a-key-of-the-tests-0123456789";
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), key).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut program = program();
    // Names of models are made up, and nobody is to be asked for them.
    program
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", cache.path())
        .env("PATCHLIGHT_CACHE_DIR", cache.path());
    let flags = [
        "--api-key-file",
        keys.path().to_str().unwrap(),
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let server = Server::start_by(program, "127.0.0.1:0", &flags);
    run(&python, "openapi.py", &[&server.admin(), key]);
}
