//! External services that a server works with, from Debian's packages, on free ports of the
//! loopback.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long one may take to listen; generous, since machines are slow.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A program that listens on a port; killed when dropped.
pub(crate) struct ExternalService {
    command: Command,
    child: Child,
    port: u16,
    /// What it was told is here as long as it runs.
    _folder: TempDir,
}

impl ExternalService {
    fn start(mut command: Command, port: u16, folder: TempDir) -> Self {
        let child = spawn(&mut command);
        let service = Self {
            command,
            child,
            port,
            _folder: folder,
        };
        service.wait();
        service
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(&mut self.command);
        self.wait();
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn wait(&self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                started.elapsed() < STARTUP_TIMEOUT,
                "{:?} does not listen",
                self.command
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for ExternalService {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Redis or Valkey server with this password and nothing on disk.
pub(crate) fn redis(password: &str, further: &[&str]) -> Option<ExternalService> {
    let program = installed(&["redis-server", "valkey-server"])?;
    let (port, folder) = (free_port(), folder());
    let number = port.to_string();
    let mut command = Command::new(program);
    command.current_dir(folder.path());
    command.args(["--port", &number, "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "no", "--requirepass", password]);
    command.args(further);
    Some(ExternalService::start(command, port, folder))
}

/// The same over TLS alone, with `tls.crt` and `tls.key` of a folder.
pub(crate) fn redis_over_tls(password: &str, files: &Path) -> Option<ExternalService> {
    let program = installed(&["redis-server", "valkey-server"])?;
    let (port, folder) = (free_port(), folder());
    let number = port.to_string();
    let mut command = Command::new(program);
    command.current_dir(folder.path());
    command.args(["--port", "0", "--tls-port", &number, "--bind", "127.0.0.1"]);
    command.arg("--tls-cert-file").arg(files.join("tls.crt"));
    command.arg("--tls-key-file").arg(files.join("tls.key"));
    command.args(["--tls-auth-clients", "no", "--requirepass", password]);
    command.args(["--save", "", "--appendonly", "no"]);
    Some(ExternalService::start(command, port, folder))
}

/// nginx in front of these servers. It asks each of them again (`max_fails=0`) and goes on to the
/// next: with a memory of failures, one that is back already would count as away while the next is
/// killed.
pub(crate) fn nginx(servers: &[String]) -> Option<ExternalService> {
    let program = installed(&["nginx", "/usr/sbin/nginx"])?;
    let (port, folder) = (free_port(), folder());
    let upstream: String = servers
        .iter()
        .map(|server| format!("    server {server} max_fails=0;\n"))
        .collect();
    let config = format!(
        "daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{}}
http {{
  access_log off;
  client_max_body_size 20m;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream patchlight {{
{upstream}  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://patchlight;
      proxy_next_upstream error timeout non_idempotent;
    }}
  }}
}}
"
    );
    fs::write(folder.path().join("nginx.conf"), config).expect("a configuration");
    let mut command = Command::new(program);
    command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]);
    command.arg(folder.path());
    Some(ExternalService::start(command, port, folder))
}

/// HAProxy in front of these servers.
pub(crate) fn haproxy(servers: &[String]) -> Option<ExternalService> {
    let program = installed(&["haproxy", "/usr/sbin/haproxy"])?;
    let (port, folder) = (free_port(), folder());
    let backend: String = servers
        .iter()
        .enumerate()
        .map(|(number, server)| format!("  server replica{number} {server}\n"))
        .collect();
    let config = format!(
        "defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  retries 5
  retry-on conn-failure empty-response
  option redispatch 1
listen patchlight
  bind 127.0.0.1:{port}
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 500ms fall 1 rise 1
{backend}"
    );
    let path = folder.path().join("haproxy.cfg");
    fs::write(&path, config).expect("a configuration");
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(path);
    Some(ExternalService::start(command, port, folder))
}

/// The first of these programs that is installed; [`skip`]s if none is.
fn installed(names: &[&str]) -> Option<String> {
    let folders = env::var("PATH").unwrap_or_default();
    let found = names.iter().find(|name| {
        Path::new(name).is_absolute() && Path::new(name).exists()
            || folders
                .split(':')
                .any(|folder| Path::new(folder).join(name).is_file())
    });
    if found.is_none() {
        skip(&format!("{} is not installed", names[0]));
    }
    found.map(|name| (*name).to_owned())
}

/// Says that a test is left out, and what it lacks. Under CI (`CI` is set, as CI systems do) what
/// tests need is installed, so there this fails.
pub(crate) fn skip(missing: &str) {
    assert!(
        env::var_os("CI").is_none(),
        "{missing}, and under CI no test is skipped"
    );
    eprintln!("SKIPPED: {missing}; .ci/run installs it");
}

/// Whether a program is installed; [`skip`]s if it is not.
pub(crate) fn has(program: &str) -> bool {
    let found = runs(program);
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Whether a program can be started and says its version.
pub(crate) fn runs(program: &str) -> bool {
    let asked = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}
