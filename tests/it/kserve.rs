//! `k8s/kserve/`: what KServe's own SDK says of the manifests, and the program started as KServe
//! starts it.

use std::{collections::HashMap, fs, path::Path, process::Command};

use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    client::{get, post},
    client_examples::{folder, python},
    process::{Server, models, program},
};

/// How a runtime's container is started.
#[derive(Deserialize)]
struct Start {
    args: Vec<String>,
    env: HashMap<String, String>,
    user: u32,
    ports: Vec<u16>,
    probes: Vec<String>,
}

#[tokio::test]
async fn the_manifests_fit_kserve_s_types_and_start_what_is_mounted() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = Command::new(python)
        .arg(folder().join("kserve_manifests.py"))
        .arg(root.join("k8s/kserve"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    let starts: HashMap<String, Start> = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(starts.len(), 2);
    for (runtime, start) in starts {
        let mount = mounted(&models("demo"));
        let (server, _cache) = started(&runtime, &start, mount.path());
        // Under the service's name.
        answers(&server, &start.probes).await;
        let start = &start;
        let runtime = &runtime;
        let checkpoint = mounted(&models("demo/checkpoint"));
        let graph = mounted(&root.join("tests/goldens/exported/optimum"));
        for mount in [checkpoint, graph] {
            let (server, cache) = started(runtime, start, mount.path());
            answers(&server, &start.probes).await;
            drop(server);
            // The container's next start in the same pod.
            let kept = fs::read_dir(cache.path().join("models")).unwrap().count();
            assert_eq!(kept, 1, "{runtime}");
        }
    }
}

async fn answers(server: &Server, probes: &[String]) {
    for probe in probes {
        assert_eq!(get(&server.address, probe).await.status, 200, "{probe}");
    }
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let answer = post(&server.address, "/classify?model=birds", dog).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ready = get(&server.address, "/v2/models/birds/ready").await;
    assert_eq!(ready.status, 200);
}

/// A folder for /mnt/models that nobody can write to, with these files.
fn mounted(files: &Path) -> TempDir {
    let mount = tempfile::tempdir().unwrap();
    for file in fs::read_dir(files).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, mount.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    readable_to_all(mount.path());
    mount
}

/// The program with the container's arguments and environment, its user where this test may choose
/// one, a free port for its port, and a folder for its cache.
fn started(runtime: &str, start: &Start, mount: &Path) -> (Server, TempDir) {
    let path = mount.to_str().unwrap();
    let [serve, rest @ ..] = start.args.as_slice() else {
        panic!("{runtime} has no arguments");
    };
    assert_eq!(serve, "serve");
    let listen = format!("--listen=0.0.0.0:{}", start.ports[0]);
    assert!(rest.contains(&listen), "{runtime} listens elsewhere");
    let flags: Vec<String> = rest
        .iter()
        .filter(|flag| **flag != listen)
        .map(|flag| flag.replace("/mnt/models", path))
        .collect();
    let cache = tempfile::tempdir().unwrap();
    writable_to_all(cache.path());
    assert!(start.env.contains_key("PATCHLIGHT_CACHE_DIR"), "{runtime}");
    let mut command = as_user(start.user);
    command
        .envs(&start.env)
        .env("PATCHLIGHT_CACHE_DIR", cache.path())
        // Not that of who runs the tests, which another user may not read.
        .env("HOME", cache.path());
    (Server::start_by(command, "127.0.0.1:0", &flags), cache)
}

/// The program as the user of the container, if this test may become one and that one may run it.
fn as_user(user: u32) -> Command {
    let plain = program();
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return plain;
    }
    let user = user.to_string();
    let become_user = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command.arg(plain.get_program());
        for (name, value) in plain.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    };
    // A checkout below /root is closed to others.
    let works = become_user().arg("--version").output();
    match works.is_ok_and(|works| works.status.success()) {
        true => become_user(),
        false => plain,
    }
}

#[cfg(unix)]
fn writable_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
}

#[cfg(unix)]
fn readable_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for file in fs::read_dir(folder).unwrap() {
        let mode = fs::Permissions::from_mode(0o444);
        fs::set_permissions(file.unwrap().path(), mode).unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
}
