//! A program and all that it starts, as one process group that does not outlive it.

use std::io;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::process::kill_process_group;
use rustix::process::waitid;
use tokio::task::JoinHandle;

/// How long a process may take to end that was killed; only one that waits for a broken disk takes any time at all.
const DEATH: Duration = Duration::from_secs(5);

/// A running program. Dropped, it is killed with its group.
///
/// Its end is seen before it is reaped: until then nobody else can have its number, nor its group's.
pub(super) struct Running {
    child: Option<Child>,
    watch: JoinHandle<io::Result<()>>,
    has_ended: bool,
}

impl Running {
    /// Starts a command that makes a process group of its own.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let watch = tokio::task::spawn_blocking(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            retry_on_intr(|| waitid(WaitId::Pid(pid), options)).map(drop).map_err(io::Error::from)
        });
        Ok(Self { child: Some(child), watch, has_ended: false })
    }

    /// Waits until the program has ended. What it started may go on.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        if self.has_ended {
            return Ok(());
        }
        let ended = (&mut self.watch).await;
        self.has_ended = true;
        ended.map_err(io::Error::other)?
    }

    /// Kills what is left of the group, and says how the program ended.
    pub(super) async fn end(mut self) -> io::Result<ExitStatus> {
        if let Some(child) = &self.child {
            kill(child);
        }
        let dead = tokio::time::timeout(DEATH, self.ended()).await;
        match (dead, self.child.take()) {
            (Ok(_), Some(mut child)) => child.wait(),
            // Left to be reaped by nobody; it could not be killed.
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(&child);
            let _ = child.try_wait();
        }
    }
}

/// Kills the group. There may be nobody in it any more, which is as good.
fn kill(child: &Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}
