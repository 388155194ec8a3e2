//! The real HAProxy as a child process.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use super::EnvironmentError;
use super::Process;
use super::master::Master;
use super::programs::Unpacked;

/// A running HAProxy: a master process and its workers.
#[derive(Debug)]
pub struct Haproxy(Master);

impl Haproxy {
    /// Starts it with this configuration and waits until it listens.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start(
        program: &Unpacked,
        config: &Path,
        address: SocketAddr,
        log: PathBuf,
    ) -> Result<Self, EnvironmentError> {
        let mut command = Command::new(&program.run);
        command.arg("-W").arg("-f").arg(config);
        Master::start("haproxy", &mut command, address, log).await.map(Self)
    }

    /// Its master process.
    pub fn process(&self) -> &Process {
        self.0.process()
    }
}
