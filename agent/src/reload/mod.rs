//! Has a program that runs already read its files again, by a signal.
//!
//! The process is held by a descriptor before it is looked at, and the signal goes to the descriptor: whatever becomes of
//! its number meanwhile, nobody else gets the signal. Who runs another program than the expected one, or is a worker and not
//! the master of its kind, gets none either: the file with its number may be left from long ago.

use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::pidfd_open;
use rustix::process::pidfd_send_signal;
use serde::Deserialize;

/// Bytes of a file with a number in it; more is something else.
const LONGEST: u64 = 64;

/// A signal that has a program read its files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// SIGHUP: nginx, and most others.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2: the master process of HAProxy.
    Usr2,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
        })
    }
}

/// Whom to signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// What it gets.
    pub signal: Signal,
    /// Holds its number.
    pub pid_file: PathBuf,
    /// The program that it runs.
    pub exe: PathBuf,
}

/// Who was signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// Nobody: it does not run, and will read the new files when it begins.
    Nobody,
    /// This process.
    Process(i32),
}

/// Why nobody was signalled though somebody runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// It cannot be looked at.
    #[error("cannot look at process {pid}, whose number is in `{}`; run the agent as its user, or use a hook", pid_file.display())]
    Hidden {
        /// Its number.
        pid: i32,
        /// The file.
        pid_file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Anybody could have it signal anybody.
    #[error("`{}` is of user {owner} with mode {mode:04o}, so that others choose who is signalled; it must be of root, of this user or of the process's, and writable by nobody else", pid_file.display())]
    OpenToOthers {
        /// The file.
        pid_file: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// The number is somebody else's by now, or the expected program is another one.
    #[error("process {pid} of `{}` runs `{}` and not `{}`; it is not signalled", pid_file.display(), found.display(), wanted.display())]
    OtherProgram {
        /// Its number.
        pid: i32,
        /// The file.
        pid_file: PathBuf,
        /// What it runs.
        found: PathBuf,
        /// What is expected.
        wanted: PathBuf,
    },
    /// The signal was refused.
    #[error("cannot send {signal} to process {pid}; run the agent as its user, or use a hook")]
    Send {
        /// The signal.
        signal: Signal,
        /// Its number.
        pid: i32,
        /// The cause.
        source: io::Error,
    },
    /// There is no number in the file.
    #[error("`{}` does not hold the number of a process", pid_file.display())]
    Unreadable {
        /// The file.
        pid_file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The number is of a worker.
    #[error("process {pid} of `{}` is a child of another `{}`, a worker; it is not signalled", pid_file.display(), wanted.display())]
    Worker {
        /// Its number.
        pid: i32,
        /// The file.
        pid_file: PathBuf,
        /// What both run.
        wanted: PathBuf,
    },
}

impl Reload {
    /// Sends the signal. Reads `/proc`.
    ///
    /// # Errors
    ///
    /// [`ReloadError`].
    pub fn send(&self) -> Result<Signalled, ReloadError> {
        self.send_by(Path::new("/proc"))
    }

    fn send_by(&self, proc: &Path) -> Result<Signalled, ReloadError> {
        let pid_file = || self.pid_file.clone();
        let unreadable = |source| ReloadError::Unreadable { pid_file: pid_file(), source };
        let (pid, owner, mode) = match self.number() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Signalled::Nobody),
            Err(error) => return Err(unreadable(error)),
        };
        let number = pid.as_raw_nonzero().get();
        let hidden = |source| ReloadError::Hidden { pid: number, pid_file: pid_file(), source };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(Signalled::Nobody),
            Err(error) => return Err(hidden(error.into())),
        };
        let (user, found, parent) = match look(proc, number) {
            Ok(found) => found,
            Err(error) if is_gone(&error) && !is_there_unseen(proc, pid) => return Ok(Signalled::Nobody),
            Err(error) => return Err(hidden(error)),
        };
        let trusted = [0, rustix::process::geteuid().as_raw(), user];
        if !trusted.contains(&owner) || mode & 0o022 != 0 {
            return Err(ReloadError::OpenToOthers { pid_file: pid_file(), owner, mode });
        }
        let wanted = fs::canonicalize(&self.exe).unwrap_or_else(|_| self.exe.clone());
        if !is_program(&found, &wanted) {
            return Err(ReloadError::OtherProgram { pid: number, pid_file: pid_file(), found, wanted });
        }
        if fs::read_link(proc.join(format!("{parent}/exe"))).is_ok_and(|exe| is_program(&exe, &wanted)) {
            return Err(ReloadError::Worker { pid: number, pid_file: pid_file(), wanted });
        }
        match pidfd_send_signal(process, self.signal.number()) {
            Ok(()) => Ok(Signalled::Process(number)),
            Err(Errno::SRCH) => Ok(Signalled::Nobody),
            Err(error) => Err(ReloadError::Send { signal: self.signal, pid: number, source: error.into() }),
        }
    }

    /// The number in the file, and the file's owner and mode.
    fn number(&self) -> io::Result<(Pid, u32, u32)> {
        // Not blocking, for whatever may lie there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&self.pid_file, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        // A master may write several: its own is the first.
        let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
        // 1 is nobody that reads certificates, and what is less has another meaning.
        let pid = number.filter(|number: &i32| *number > 1).and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        Ok((pid, metadata.uid(), metadata.mode() & 0o7777))
    }
}

impl Signal {
    const fn number(self) -> rustix::process::Signal {
        match self {
            Self::Hup => rustix::process::Signal::HUP,
            Self::Usr1 => rustix::process::Signal::USR1,
            Self::Usr2 => rustix::process::Signal::USR2,
        }
    }
}

/// Whose a process is, what it runs, and the number of its parent.
fn look(proc: &Path, pid: i32) -> io::Result<(u32, PathBuf, u32)> {
    let there = proc.join(pid.to_string());
    let user = fs::metadata(&there)?.uid();
    let exe = fs::read_link(there.join("exe"))?;
    let stat = fs::read_to_string(there.join("stat"))?;
    // The name in parentheses may hold anything; the state and then the parent follow its end.
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
    Ok((user, exe, parent.ok_or(io::ErrorKind::InvalidData)?))
}

/// Whether it runs where others' processes are not shown (`hidepid=2`).
fn is_there_unseen(proc: &Path, pid: Pid) -> bool {
    !proc.join(pid.as_raw_nonzero().to_string()).exists() && rustix::process::test_kill_process(pid) != Err(Errno::SRCH)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::SRCH)
}

/// A program that was replaced by an upgrade runs on under its old name.
fn is_program(found: &Path, wanted: &Path) -> bool {
    const REPLACED: &[u8] = b" (deleted)";

    let found = found.as_os_str().as_encoded_bytes();
    found.strip_suffix(REPLACED).unwrap_or(found) == wanted.as_os_str().as_encoded_bytes()
}

#[cfg(test)]
mod tests;
