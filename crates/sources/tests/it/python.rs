//! The hub's own Python client, unmodified, on the same hub and the same cache.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    stand_in::StandIn,
    support::{Machine, weights},
};

/// The interpreter of the virtual environment that all tests with Python clients share; none where
/// it cannot be made, which fails where `CI` is set.
fn python() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/venv.sh");
    let made = Command::new("bash").arg(script).output().ok()?;
    if made.status.success() {
        let path = String::from_utf8(made.stdout).unwrap();
        return Some(path.trim().into());
    }
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(env::var_os("CI").is_none(), "no Python client: {said}");
    eprintln!("SKIPPED: no Python client: {said}");
    None
}

/// Runs a program that sees the machine as the server does.
fn run(python: &Path, machine: &Machine, offline: bool, program: &str) -> String {
    let done = Command::new(python)
        .args(["-c", program])
        .env("HOME", machine.home.path())
        .env("HF_ENDPOINT", &machine.endpoint)
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        // The stand-in has Xet's headers, not its servers.
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env_remove("HF_HOME")
        .env_remove("HF_HUB_CACHE")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("HF_TOKEN")
        .output()
        .unwrap();
    let (said, error) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    );
    assert!(done.status.success(), "{said}{error}");
    said
}

const FILES: [(&str, &[u8]); 4] = [
    ("README.md", b"words"),
    ("config.json", b"{\"a\": 1}"),
    ("model.safetensors", b"these are weights"),
    ("preprocessor_config.json", b"{\"b\": 1}"),
];

#[test]
fn what_python_downloaded_is_found_without_a_request() {
    let Some(python) = python() else { return };
    let hub = StandIn::start();
    let commit = hub.commit("org/tiny", "main", &FILES);
    let machine = Machine::new(&hub);
    run(
        &python,
        &machine,
        false,
        "from huggingface_hub import snapshot_download; snapshot_download('org/tiny')",
    );
    hub.requests();
    let offline = Machine {
        offline: true,
        ..machine
    };
    let fetched = offline.fetch("hf://org/tiny").unwrap();
    assert_eq!(fetched.origin.revision, commit);
    assert_eq!(fs::read(weights(&fetched)).unwrap(), FILES[2].1);
    assert!(hub.requests().is_empty());

    let online = Machine {
        offline: false,
        ..offline
    };
    online.fetch("hf://org/tiny").unwrap();
    assert_eq!(hub.requests().len(), 1, "files were asked for again");
}

#[test]
fn what_was_downloaded_here_python_finds_offline_and_does_not_download_again() {
    let Some(python) = python() else { return };
    let hub = StandIn::start();
    let commit = hub.commit("org/tiny", "main", &FILES);
    let machine = Machine::new(&hub);
    machine.fetch("hf://org/tiny").unwrap();
    hub.requests();
    let found = run(
        &python,
        &machine,
        true,
        "from huggingface_hub import hf_hub_download, scan_cache_dir\n\
         for name in ['config.json', 'model.safetensors', 'preprocessor_config.json']:\n\
        \x20   path = hf_hub_download('org/tiny', name)\n\
        \x20   print(name, path.split('/')[-2], open(path, 'rb').read())\n\
         found = scan_cache_dir()\n\
         print(len(found.warnings), [(r.repo_id, sorted(r.refs)) for r in found.repos])\n",
    );
    let expected = format!(
        "config.json {commit} b'{{\"a\": 1}}'\n\
         model.safetensors {commit} b'these are weights'\n\
         preprocessor_config.json {commit} b'{{\"b\": 1}}'\n\
         0 [('org/tiny', ['main'])]\n"
    );
    assert_eq!(found, expected);
    assert!(hub.requests().is_empty());
    run(
        &python,
        &machine,
        false,
        "from huggingface_hub import snapshot_download\n\
         snapshot_download('org/tiny', allow_patterns=['*.json', '*.safetensors'])\n",
    );
    let downloads = hub.requests().into_iter().filter(|asked| asked.storage);
    assert_eq!(downloads.count(), 0);
}
