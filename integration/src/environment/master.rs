//! A master process with workers, which end when it is asked to end and not when it is killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::net::TcpStream;

use super::EnvironmentError;
use super::Process;
use super::wait;

/// Until it takes connections.
const START: Duration = Duration::from_secs(20);
/// Until it has ended with its workers.
const END: Duration = Duration::from_secs(5);

/// A running master. Ended when dropped.
#[derive(Debug)]
pub(super) struct Master {
    process: Process,
}

impl Master {
    /// Starts it and waits until it listens.
    pub(super) async fn start(
        program: &'static str,
        command: &mut Command,
        address: SocketAddr,
        log: PathBuf,
    ) -> Result<Self, EnvironmentError> {
        let mut master = Self { process: Process::start(program, command, log)? };
        let mut ended = None;
        let waited = wait::until(&format!("{program} to listen"), START, async || {
            if let Err(error) = master.process.check_running() {
                ended = Some(error);
                return Ok(());
            }
            TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        ended.map_or(waited, Err)?;
        Ok(master)
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) else { return };
        let asked = rustix::process::kill_process(pid, Signal::TERM);
        let end = Instant::now() + END;
        while asked.is_ok() && self.process.check_running().is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
