//! A child process that does not outlive its owner.

use std::fs;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use super::EnvironmentError;

/// Lines of a log that are worth repeating in an error.
const LAST_LINES: usize = 25;
/// Bytes of a line that are worth repeating.
const LINE: usize = 300;

/// A running program, its output in a file. Killed and reaped when dropped.
///
/// It stays in our process group, so that Ctrl-C at a terminal reaches it even if we are not there to pass it on.
#[derive(Debug)]
pub struct Process {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it says goes to the end of the file `log`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Spawn`], [`EnvironmentError::File`].
    pub fn start(program: &'static str, command: &mut Command, log: PathBuf) -> Result<Self, EnvironmentError> {
        let file = |source| EnvironmentError::File { doing: "write", path: log.clone(), source };
        let out = File::options().create(true).append(true).open(&log).map_err(file)?;
        let err = out.try_clone().map_err(file)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| EnvironmentError::Spawn { program, source })?;
        Ok(Self { program, child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it said so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of what it said.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().map(|line| line.get(..LINE).unwrap_or(line)).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Says whether it still runs.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Exited`] with the end of its log.
    pub fn check_running(&mut self) -> Result<(), EnvironmentError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(EnvironmentError::Exited { program: self.program, status, log: self.last_words() }),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it as `kill -9` does, without a last word.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Asks it to end (SIGTERM), and kills it after `patience`.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub async fn stop(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            rustix::process::kill_process(pid, Signal::TERM)?;
        }
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.kill()
    }

    /// Reads the processor time that it has used, for as long as it runs.
    pub fn cpu_clock(&self) -> CpuClock {
        CpuClock { id: self.id() }
    }

    /// Resident memory now, in bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    }
}

/// Tells the processor time of a process, all its threads together.
#[derive(Clone, Copy, Debug)]
pub struct CpuClock {
    id: u32,
}

impl CpuClock {
    /// User and system time so far.
    pub fn now(self) -> Duration {
        // In nanoseconds, where `/proc/PID/stat` counts in hundredths of a second.
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).into_iter().flatten().flatten();
        let nanoseconds = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell of any other failure.
        let _ = self.kill();
    }
}
