//! A corner of the machine that is a test's own, with small disks: namespaces as an ordinary user may make them, where users may.

use std::fs;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::support::Agent;
use crate::support::Desk;

/// What holds the namespaces, until it is dropped.
pub(crate) struct Corner {
    holder: Child,
}

impl Corner {
    /// Has a shell make it what it is to be, and the desk's programs run there from now on. None where a user may not have one.
    pub(crate) fn of(desk: &mut Desk, script: &str) -> Option<Self> {
        // Root may be refused users of its own and have mounts all the same.
        let corner = Self::made(desk, &["--user", "--map-root-user", "--mount"], script)
            .or_else(|| Self::made(desk, &["--mount"], script));
        if corner.is_none() {
            // Not by the macro, whose output nobody sees of a test that passes.
            let _ = writeln!(io::stderr(), "this machine lets its users make no namespaces: what is tested is weaker");
        }
        corner
    }

    fn made(desk: &mut Desk, namespaces: &[&str], script: &str) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["sh", "-c", &format!("set -e\n{script}\necho made\nexec cat")]);
        command.current_dir(desk.path(".")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut corner = Self { holder: command.spawn().ok()? };
        let mut line = String::new();
        BufReader::new(corner.holder.stdout.take()?).read_line(&mut line).ok()?;
        if line != "made\n" {
            return None;
        }
        let pid = corner.holder.id().to_string();
        let mut enter: Vec<&str> = vec!["nsenter", "--preserve-credentials", "--target", &pid];
        enter.extend(namespaces.iter().filter(|namespace| **namespace != "--map-root-user"));
        // It would begin at the root of what is mounted there.
        let there = desk.path(".").display().to_string();
        enter.extend(["--", "sh", "-c", "cd \"$0\" && exec \"$@\"", &there]);
        desk.enter(&enter, Path::new(&format!("/proc/{pid}/root")));
        Some(corner)
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What a disk has none left of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Bytes,
    Files,
}

/// A disk that is full, until it is told otherwise.
pub(crate) enum Disk {
    /// One of a corner, filled with a file or with many.
    Filled(PathBuf),
    /// Where there is no corner: no file of the agent grows any more, on whatever disk it is.
    Limited(Pid, Rlimit),
}

impl Disk {
    /// Fills the disk of this directory.
    pub(crate) fn fill(corner: Option<&Corner>, directory: &Path, full: Full, agent: &Agent) -> Self {
        if corner.is_none() {
            let pid = i32::try_from(agent.id()).ok().and_then(Pid::from_raw).expect("a process");
            let limit = rustix::process::getrlimit(Resource::Fsize);
            let none = Rlimit { current: Some(0), ..limit };
            rustix::process::prlimit(Some(pid), Resource::Fsize, none).expect("limited");
            return Self::Limited(pid, limit);
        }
        let ballast = directory.join("ballast");
        fs::create_dir(&ballast).expect("room for a directory");
        let put = || match full {
            Full::Bytes => append(&ballast.join("bytes"), &[0; 4096]),
            Full::Files => (0..).try_for_each(|number| fs::File::create(ballast.join(format!("{number}"))).map(drop)),
        };
        let error = loop {
            if let Err(error) = put() {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        Self::Filled(ballast)
    }

    /// Makes room again.
    pub(crate) fn free(self) {
        match self {
            Self::Filled(ballast) => fs::remove_dir_all(ballast).expect("removed"),
            Self::Limited(pid, limit) => {
                rustix::process::prlimit(Some(pid), Resource::Fsize, limit).map(drop).expect("limited no more");
            }
        }
    }
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
}
