//! Models on a web server whose certificate an authority of one's own has signed.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DRAIN, agrees_with_transformers, golden};
use crate::process::{Server, models, program};

/// Python's own web server, with TLS.
pub(crate) struct Web {
    pub(crate) folder: TempDir,
    child: Child,
    pub(crate) port: String,
}

impl Web {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        certify(folder.path());
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clouds/serve_https.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(&files)
            .args(["tls.crt", "tls.key"].map(|name| folder.path().join(name)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut port).unwrap();
        Self {
            folder,
            child,
            port: port.trim().to_owned(),
        }
    }

    /// Packs the tiny checkpoint with the tool that people use.
    fn pack(&self) {
        let done = Command::new("python3")
            .args(["-m", "zipfile", "-c"])
            .arg(self.folder.path().join("files/tiny-vit.zip"))
            .arg(golden("transformers/plain"))
            .status()
            .unwrap();
        assert!(done.success());
    }

    pub(crate) fn address(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.port)
    }

    /// The program on a machine that trusts the authority and no other.
    pub(crate) fn program(&self) -> Command {
        let mut command = program();
        command
            .env_remove("XDG_CACHE_HOME")
            .env("HOME", self.folder.path())
            .env("SSL_CERT_FILE", self.folder.path().join("ca.crt"));
        command
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes an authority's certificate, and one for `localhost` that it has signed.
fn certify(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = authority.self_signed(&key).unwrap();
    fs::write(folder.join("ca.crt"), certificate.pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("tls.crt"), server.pem()).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn an_archive_on_a_server_of_ones_own_is_served_and_again_without_it() {
    let mut web = Web::start();
    web.pack();
    let address = web.address("tiny-vit.zip");
    let flags = [&DRAIN[..], &["--model", &address]].concat();
    let server = Server::start_by(web.program(), "127.0.0.1:0", &flags);
    agrees_with_transformers(&server, "tiny-vit").await;
    drop(server);
    web.stop();
    let server = Server::start_by(web.program(), "127.0.0.1:0", &flags);
    agrees_with_transformers(&server, "tiny-vit").await;
    let log = server.start_up.join("\n");
    assert!(log.contains("nobody was asked"), "{log}");
}

#[test]
fn a_certificate_that_nobody_knows_is_refused_with_what_to_do() {
    let web = Web::start();
    web.pack();
    let mut command = program();
    let done = command
        .env("HOME", web.folder.path())
        .args(["import", &web.address("tiny-vit.zip"), "--out"])
        .arg(web.folder.path().join("out"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("SSL_CERT_FILE"), "{said}");
}

#[tokio::test]
async fn kill_9_in_the_middle_of_an_archive_leaves_nothing_half() {
    let web = Web::start();
    web.pack();
    let files = web.folder.path().join("files");
    fs::write(files.join("STALL"), "").unwrap();
    let address = web.address("tiny-vit.zip");
    let mut child = web
        .program()
        .args(["serve", "--listen", "127.0.0.1:0", "--model", &address])
        .spawn()
        .unwrap();
    while !files.join("STALLED").exists() {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    let cache = web.folder.path().join(".cache/patchlight");
    assert!(!cache.join("records").exists());
    fs::remove_file(files.join("STALL")).unwrap();
    let flags = [&DRAIN[..], &["--model", &address]].concat();
    let server = Server::start_by(web.program(), "127.0.0.1:0", &flags);
    agrees_with_transformers(&server, "tiny-vit").await;
    assert_eq!(fs::read_dir(cache.join("downloads")).unwrap().count(), 0);
}

#[test]
fn import_bench_classify_and_prune_take_an_address() {
    let web = Web::start();
    web.pack();
    let address = web.address("tiny-vit.zip");
    let printed = |arguments: &[&str]| {
        let done = web.program().args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {error}");
        String::from_utf8(done.stdout).unwrap()
    };
    let out = web.folder.path().join("out");
    let out = out.to_str().unwrap();
    printed(&["import", &address, "--out", out]);
    assert!(printed(&["inspect", out]).contains(&address));
    // What `import` fetched is kept for the next precision, until it is cleared away.
    let downloads = web.folder.path().join(".cache/patchlight/downloads");
    assert_eq!(fs::read_dir(&downloads).unwrap().count(), 1);
    printed(&["cache", "prune"]);
    assert_eq!(fs::read_dir(&downloads).unwrap().count(), 0);

    let dog = models("samples/dog.jpg");
    let dog = dog.to_str().unwrap();
    let by_address = printed(&["classify", "--json", "--model", &address, dog]);
    let by_directory = printed(&["classify", "--json", "--model", out, dog]);
    let labels = |text: &str| serde_json::from_str::<Value>(text).unwrap()["predictions"].clone();
    assert_eq!(labels(&by_address), labels(&by_directory));
    let measured = printed(&["bench", "--json", "--seconds", "1", "--model", &address]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(measured["precision"], json!("fp32"));
}
