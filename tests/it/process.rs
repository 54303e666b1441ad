//! The real program as a child process.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test gives up; generous, since machines are slow.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(300);

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// What it logged before it listened.
    pub(crate) start_up: Vec<String>,
    /// All that it logged.
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts `patchlight serve` on a free port of the loopback and waits until it listens.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", flags)
    }

    /// The same on an address of the caller's choice.
    pub(crate) fn start_at(listen: &str, flags: &[impl AsRef<OsStr>]) -> Self {
        Self::start_by(program(), listen, flags)
    }

    /// The same with a command that ends in running the program with the flags it is given.
    pub(crate) fn start_by(
        mut command: Command,
        listen: &str,
        flags: &[impl AsRef<OsStr>],
    ) -> Self {
        let child = command
            .args(["serve", "--listen", listen])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // From here on the child ends with this value, also when the start fails.
        let mut server = Self {
            child,
            address: String::new(),
            start_up: Vec::new(),
            log: Arc::default(),
        };
        let stderr = server.child.stderr.take().expect("stderr is piped");
        let (lines, received) = mpsc::channel();
        let log = Arc::clone(&server.log);
        // Reads on for the child's life, so that its log never blocks it.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock().unwrap().push(line.clone());
                let _ = lines.send(line);
            }
        });
        while server.address.is_empty() {
            let Ok(line) = received.recv_timeout(PROCESS_TIMEOUT) else {
                panic!("the server did not start:\n{}", server.start_up.join("\n"));
            };
            if let Some((_, url)) = line.split_once("listening on ")
                && let Some((_, address)) = url.split_once("://")
            {
                // In a JSON line a quotation mark and more fields follow.
                let (address, _) = address.split_once('"').unwrap_or((address, ""));
                server.address = address.trim().to_owned();
            }
            server.start_up.push(line);
        }
        server
    }

    /// The demo model with a drain that does not slow tests down.
    pub(crate) fn demo() -> Self {
        Self::start(&["--drain-delay", "200ms"])
    }

    /// Where models are changed, if `--admin-listen` was given.
    pub(crate) fn admin(&self) -> String {
        let mut lines = self.start_up.iter();
        let address = lines.find_map(|line| line.split("administration on http://").nth(1));
        let address = address.expect("an admin listener");
        // In a JSON line a quotation mark and more fields follow.
        let (address, _) = address.split_once('"').unwrap_or((address, ""));
        address.trim().to_owned()
    }

    /// Where gRPC is alone, if `--grpc-listen` was given.
    pub(crate) fn grpc(&self) -> String {
        let mut lines = self.start_up.iter();
        let address = lines.find_map(|line| line.split("gRPC on ").nth(1));
        address.expect("a listener for gRPC").trim().to_owned()
    }

    /// How many threads of the program have this name.
    #[cfg(target_os = "linux")]
    pub(crate) fn threads(&self, name: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        tasks
            .expect("the program runs")
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|comm| comm.trim() == name)
            .count()
    }

    /// How much processor time its threads of this name have taken.
    #[cfg(target_os = "linux")]
    pub(crate) fn thread_time(&self, name: &str) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let nanoseconds = |task: PathBuf| -> Option<u64> {
            let comm = std::fs::read_to_string(task.join("comm")).ok()?;
            // On a processor, waiting for one, and how often (Documentation/scheduler/sched-stats).
            let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
            let on_processor = times.split(' ').next()?.parse().ok()?;
            (comm.trim() == name).then_some(on_processor)
        };
        let tasks = tasks.expect("the program runs").flatten();
        Duration::from_nanos(tasks.filter_map(|task| nanoseconds(task.path())).sum())
    }

    /// Stops the whole program at once for so long, as when its container is paused.
    #[cfg(target_os = "linux")]
    pub(crate) async fn pause(&self, pause: Duration) {
        use rustix::process::{Pid, Signal, kill_process};
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::STOP).expect("it can be stopped");
        tokio::time::sleep(pause).await;
        kill_process(id, Signal::CONT).expect("it goes on");
    }

    /// How much processor time it has taken, in whole seconds.
    pub(crate) fn processor_time(&self) -> Duration {
        let id = self.child.id().to_string();
        let said = Command::new("ps")
            .args(["-o", "cputime=", "-p", &id])
            .output();
        let said = String::from_utf8(said.expect("ps runs").stdout).expect("ps writes text");
        // [days-]hours:minutes:seconds, or minutes:seconds.hundredths.
        let (days, rest) = said
            .trim()
            .split_once('-')
            .unwrap_or_else(|| ("0", said.trim()));
        let number = |text: &str| text.parse::<f64>().expect("a number");
        let seconds = rest
            .split(':')
            .fold(0.0, |sum, part| 60.0 * sum + number(part));
        Duration::from_secs_f64(86_400.0 * number(days) + seconds)
    }

    /// What it has logged until now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(
                started.elapsed() < PROCESS_TIMEOUT,
                "the server did not end"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program under test, away from the settings of the caller's environment.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchlight"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PATCHLIGHT_") {
            command.env_remove(name);
        }
    }
    command
}

/// A folder below the models of this repository.
pub(crate) fn models(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(path)
}
