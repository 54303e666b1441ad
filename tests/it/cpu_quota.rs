//! A container's CPU quota, by a real control group where this machine lets us make one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::process::{Server, program};

/// A group of our own with a quota of so many microseconds of each 100 ms.
struct Group(PathBuf);

impl Group {
    fn new(microseconds: u32) -> io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("patchlight-test-{}", std::process::id());
        let (folder, file, text) = match root.join("cgroup.controllers").exists() {
            true => (root.join(name), "cpu.max", format!("{microseconds} 100000")),
            false => (
                root.join("cpu").join(name),
                "cpu.cfs_quota_us",
                microseconds.to_string(),
            ),
        };
        fs::create_dir(&folder)?;
        let group = Self(folder);
        // In a folder that is no control group, this file would be made and mean nothing.
        if !group.0.join("cgroup.procs").exists() || !group.0.join(file).exists() {
            return Err(io::Error::other("no CPU controller is to be had"));
        }
        fs::write(group.0.join(file), text)?;
        Ok(group)
    }

    /// The program, started inside.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        command.args(["-c", script]).arg(&self.0);
        let program = program();
        command.arg(program.get_program());
        for (name, _) in program.get_envs().filter(|(_, value)| value.is_none()) {
            command.env_remove(name);
        }
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may take a moment to go.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_quota_of_one_core_gives_one_thread_that_does_not_spin() {
    let group = match Group::new(100_000) {
        Ok(group) => group,
        Err(error) => {
            // Not even under CI, whose containers may not: no package brings the permission.
            println!("skipped: this machine lets us make no control group with a quota: {error}");
            return;
        }
    };
    let server = Server::start_by(group.command(), "127.0.0.1:0", &["--drain-delay", "0s"]);
    let device = server.start_up.iter().find(|line| line.contains("threads"));
    let device = device.expect("the log says how many threads compute");
    assert!(device.contains("threads=1"), "{device}");
    assert!(device.contains("spin=false"), "{device}");
}
