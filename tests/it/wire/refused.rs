//! Bodies that are refused while they are sent: the real clients have to see the answer.

use std::{
    env, fs,
    process::{Command, Stdio},
};

use crate::{clients, process::Server};

/// Runs a client to its end; what it wrote. `None`, with a printed reason, where it is not
/// installed. Under CI it always is.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let run = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match run {
        Ok(run) => {
            let said = [run.stdout, run.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            Some((run.status.success(), said))
        }
        Err(error) => {
            assert!(env::var_os("CI").is_none(), "{program}: {error}");
            eprintln!("skipped: {program} is not here: {error}");
            None
        }
    }
}

fn script(name: &str) -> String {
    let path = clients::folder().join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn python_s_clients_see_why_a_large_body_is_refused() {
    let server = Server::demo();
    if let Some((well, said)) = run("python3", &[&script("refused.py"), &server.address]) {
        assert!(well, "{said}");
    }
}

#[test]
fn node_s_fetch_sees_why_a_large_body_is_refused() {
    let server = Server::demo();
    if let Some((well, said)) = run("node", &[&script("refused.mjs"), &server.address]) {
        assert!(well, "{said}");
    }
}

#[test]
fn wget_and_curl_see_why_a_large_body_is_refused() {
    let server = Server::demo();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (target, mib, expected) in [
        ("/classify?top_k=0", 8, 400),
        ("/nowhere", 9, 404),
        ("/classify", 12, 413),
        ("/classify", 32, 413),
    ] {
        fs::write(file.path(), vec![b'x'; mib << 20]).unwrap();
        let url = format!("http://{}{target}", server.address);
        let (post, data) = (format!("--post-file={path}"), format!("@{path}"));
        let status = format!("HTTP/1.1 {expected}");
        // One try: wget tries again when a connection breaks off.
        let wget = [
            "--no-proxy",
            "--tries=1",
            "-S",
            "-O",
            "/dev/null",
            &post,
            &url,
        ];
        // curl asks first with `Expect`, unless it is told not to.
        let curl = [
            "-sS",
            "-i",
            "--noproxy",
            "*",
            "-H",
            "Expect:",
            "--data-binary",
            &data,
            &url,
        ];
        for (client, arguments) in [("wget", &wget[..]), ("curl", &curl[..])] {
            for _ in 0..3 {
                if let Some((_, said)) = run(client, arguments) {
                    assert!(
                        said.contains(&status),
                        "{client} {target} {mib} MiB: {said}"
                    );
                }
            }
        }
    }
}
