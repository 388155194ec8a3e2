//! The real nginx as a child process.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use super::EnvironmentError;
use super::Process;
use super::master::Master;
use super::programs::Unpacked;

/// A running nginx: a master process and its workers.
#[derive(Debug)]
pub struct Nginx(Master);

impl Nginx {
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
        // It stays our child.
        command.arg("-c").arg(config).args(["-g", "daemon off;"]);
        Master::start("nginx", &mut command, address, log).await.map(Self)
    }

    /// Its master process.
    pub fn process(&self) -> &Process {
        self.0.process()
    }
}
