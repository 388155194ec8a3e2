//! The real Envoy as a child process, and what its administration port says.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::EnvironmentError;
use super::Process;
use super::wait;

/// Time to become ready: a slow machine that compiles a Wasm module takes seconds of it.
const START: Duration = Duration::from_secs(60);
/// How long one that another one takes over from sends clients there, and how long it stays, in seconds.
const DRAINS: &str = "5";
const STAYS: &str = "15";

/// How Envoy is to run.
#[derive(Clone, Debug)]
pub struct EnvoyCommand {
    /// The program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// What is added to it.
    pub beside: Option<PathBuf>,
    /// Where its administration port is, by the configuration.
    pub admin: SocketAddr,
    /// Where its output goes.
    pub log: PathBuf,
    /// Worker threads.
    pub concurrency: u32,
    /// The core to stay on; any, if none.
    pub core: Option<u32>,
    /// Where it writes the number by which another one can take over from it; nobody can, if none.
    pub base_id: Option<PathBuf>,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    command: EnvoyCommand,
    /// How many took over before it.
    epoch: u32,
}

impl Envoy {
    /// Starts Envoy and does not wait for it.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Spawn`], [`EnvironmentError::File`].
    pub fn start(command: &EnvoyCommand) -> Result<Self, EnvironmentError> {
        Self::start_with(command, &[])
    }

    /// Starts it with more environment variables.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Spawn`].
    pub fn start_with(command: &EnvoyCommand, variables: &[(&str, &str)]) -> Result<Self, EnvironmentError> {
        Ok(Self { process: run(command, 0, variables)?, command: command.clone(), epoch: 0 })
    }

    /// Has another one take over (`--restart-epoch`). The one before goes by itself after a while, and is handed out.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Spawn`], [`EnvironmentError::File`].
    pub fn hot_restart(&mut self) -> Result<Process, EnvironmentError> {
        let next = run(&self.command, self.epoch + 1, &[])?;
        self.epoch += 1;
        Ok(mem::replace(&mut self.process, next))
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Exited`] or [`EnvironmentError::TimedOut`], with the end of its log.
    pub async fn ready(&mut self) -> Result<(), EnvironmentError> {
        let admin = self.command.admin;
        let process = &mut self.process;
        let mut ended = None;
        let waited = wait::until("envoy to be ready", START, async || {
            if let Err(error) = process.check_running() {
                ended = Some(error);
                return Ok(());
            }
            match get(admin, "/ready").await {
                Ok(text) if text.contains("LIVE") => Ok(()),
                Ok(text) => Err(format!("{}; its log ends:\n{}", text.trim(), process.last_words())),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
        ended.map_or(waited, Err)
    }

    /// Counters and gauges whose name holds `part`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`], if the administration port does not answer.
    pub async fn stats(&self, part: &str) -> Result<BTreeMap<String, u64>, EnvironmentError> {
        let text = get(self.command.admin, "/stats").await?;
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        Ok(pairs
            .filter(|(name, _)| name.contains(part))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// What the administration port says at `path`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`].
    pub async fn admin(&self, path: &str) -> Result<String, EnvironmentError> {
        get(self.command.admin, path).await
    }

    /// Where its administration port is.
    pub fn admin_address(&self) -> SocketAddr {
        self.command.admin
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The process, to end it.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // What it shared with who would take over stays otherwise.
        let Some(Ok(base_id)) = self.command.base_id.as_ref().map(fs::read_to_string) else { return };
        let _ = fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}0", base_id.trim()));
    }
}

/// Starts the program.
fn run(command: &EnvoyCommand, epoch: u32, variables: &[(&str, &str)]) -> Result<Process, EnvironmentError> {
    let mut run = match command.core {
        Some(core) => {
            // `taskset` becomes Envoy: the process id is Envoy's.
            let mut run = Command::new("taskset");
            run.arg("--cpu-list").arg(core.to_string()).arg(&command.program);
            run
        }
        None => Command::new(&command.program),
    };
    run.arg("--config-path").arg(&command.config);
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map_err(|source| EnvironmentError::File { doing: "read", path: path.clone(), source })
    };
    if let Some(path) = &command.beside {
        run.arg("--config-yaml").arg(read(path)?);
    }
    match (&command.base_id, epoch) {
        // It would die with the thread that started it, and share memory with its neighbours.
        (None, _) => run.arg("--disable-hot-restart"),
        (Some(path), 0) => run.arg("--use-dynamic-base-id").arg("--base-id-path").arg(path),
        (Some(path), _) => run.args(["--base-id", read(path)?.trim(), "--restart-epoch", &epoch.to_string()]),
    };
    if command.base_id.is_some() {
        run.args(["--drain-time-s", DRAINS, "--parent-shutdown-time-s", STAYS]);
    }
    run.args(["--concurrency", &command.concurrency.to_string(), "--log-level", "info"]);
    run.envs(variables.iter().copied());
    Process::start("envoy", &mut run, command.log.clone())
}

/// Checks a configuration as `envoy --mode validate` does.
///
/// # Errors
///
/// [`EnvironmentError::Command`] with what is wrong.
pub fn validate(program: &Path, config: &Path) -> Result<(), EnvironmentError> {
    let output = Command::new(program)
        .args(["--mode", "validate", "--config-path"])
        .arg(config)
        .output()
        .map_err(|source| EnvironmentError::Spawn { program: "envoy", source })?;
    if output.status.success() {
        return Ok(());
    }
    let command = format!("envoy --mode validate --config-path {}", config.display());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(EnvironmentError::Command { command, status: output.status, stderr })
}

/// One plain request; the body of the answer.
async fn get(address: SocketAddr, path: &str) -> Result<String, EnvironmentError> {
    let socket = |source| EnvironmentError::Socket { doing: "talk to envoy's administration port", source };
    let http = |error| socket(io::Error::other(error));
    let tcp = TcpStream::connect(address).await.map_err(socket)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(http)?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| socket(io::Error::other(error)))?;
    let answer = sender.send_request(request).await.map_err(http)?;
    let body = answer.into_body().collect().await.map_err(http)?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}
