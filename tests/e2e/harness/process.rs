//! A process of the product under test.
//!
//! It stays in the process group of the test, so that Ctrl-C in a terminal ends it too; it has no children of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::eventually;

/// Lines of a log that are shown when a test fails.
const SHOWN: usize = 60;

/// `wva` with some arguments. Dropping kills it; when a test fails the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with nothing but `environment` in its environment; what it prints goes into a file in `folder`.
    pub fn start(name: &'static str, arguments: &[&str], environment: &[(&str, &str)], folder: &Path) -> Self {
        // A benchmark measures the release build with the tests as they are built anyway.
        let program = std::env::var("TESTBED_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wva").to_owned());
        Self::of(&program, name, arguments, environment, folder)
    }

    /// The same with another program.
    pub fn of(
        program: &str,
        name: &'static str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        folder: &Path,
    ) -> Self {
        let number = fs::read_dir(folder).unwrap().count();
        let log = folder.join(format!("{number}-{name}.log"));
        let output = File::create(&log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { name, child, log }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The rest of the first line with `marker`, once it is printed; fails if the process ends before.
    pub async fn printed(&mut self, marker: &str, limit: Duration) -> String {
        let what = format!("{} prints {marker:?}", self.name);
        eventually(&what, limit, async || {
            let log = self.log();
            if let Some((_, rest)) = log.split_once(marker) {
                return Ok(rest.lines().next().unwrap_or_default().trim().to_owned());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended, {status}:\n{log}", self.name);
            }
            Err("not yet".to_owned())
        })
        .await
    }

    /// Its resident memory, in KiB.
    pub fn resident_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, limit, async || self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let shown = lines.len().saturating_sub(SHOWN);
            println!("--- {}: the last lines of its log\n{}", self.name, lines[shown..].join("\n"));
        }
    }
}
