//! The real agent as a child process, and its command line as a user types it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitStatus;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis::command::Renewed;
use portcullis::status::Status;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde::de::DeserializeOwned;

use super::Credentials;
use super::EnvironmentError;
use super::Process;
use super::wait;

/// Time until the control socket answers.
const START: Duration = Duration::from_secs(20);

/// The agent of one environment: running, or killed and about to be started again.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    issued: AtomicU32,
}

impl Agent {
    /// The agent with this configuration; it does not run yet.
    pub fn new(program: PathBuf, config: PathBuf, log: PathBuf) -> Self {
        Self { program, config, log, process: None, issued: AtomicU32::new(0) }
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with the end of its log.
    pub async fn start(&mut self) -> Result<(), EnvironmentError> {
        self.start_with(&[]).await
    }

    /// Starts it with more environment variables, and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with the end of its log.
    pub async fn start_with(&mut self, variables: &[(&str, &str)]) -> Result<(), EnvironmentError> {
        let mut run = self.command(&["run"]);
        run.envs(variables.iter().copied());
        let mut process = Process::start("the agent", &mut run, self.log.clone())?;
        let this = &*self;
        let mut ended = None;
        let waited = wait::until("the agent to answer", START, async || {
            if let Err(error) = process.check_running() {
                ended = Some(error);
                return Ok(());
            }
            this.status().await.map(drop).map_err(|error| super::chain(&error))
        })
        .await;
        self.process = Some(process);
        ended.map_or(waited, Err)
    }

    /// Starts it with more environment variables, and waits until it has died of them.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::TimedOut`] with the end of its log, if it lives.
    pub async fn start_to_die(
        &self,
        variables: &[(&str, &str)],
        within: Duration,
    ) -> Result<ExitStatus, EnvironmentError> {
        let mut run = self.command(&["run"]);
        run.envs(variables.iter().copied());
        let mut process = Process::start("the agent", &mut run, self.log.clone())?;
        wait::until("the agent's death", within, async || process.ended().ok_or_else(|| process.last_words())).await
    }

    /// Waits until it has died by itself.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::TimedOut`] with the end of its log, if it lives.
    pub async fn dies(&mut self, within: Duration) -> Result<ExitStatus, EnvironmentError> {
        let Some(mut process) = self.process.take() else { return Ok(ExitStatus::default()) };
        wait::until("the agent's death", within, async || process.ended().ok_or_else(|| process.last_words())).await
    }

    /// Kills it without warning (`kill -9`).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Has it read its configuration again (`SIGHUP`).
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`], if it cannot be told.
    pub fn reload(&self) -> Result<(), EnvironmentError> {
        let pid = self.process.as_ref().and_then(|process| Pid::from_raw(i32::try_from(process.id()).ok()?));
        let socket = |source| EnvironmentError::Socket { doing: "signal the agent", source };
        pid.map_or(Ok(()), |pid| kill_process(pid, Signal::HUP)).map_err(|error| socket(error.into()))
    }

    /// Asks it to end, as a service manager does, and waits.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Spawn`], if it cannot be told.
    pub async fn stop(&mut self) -> Result<(), EnvironmentError> {
        if let Some(mut process) = self.process.take() {
            let socket = |source| EnvironmentError::Socket { doing: "stop the agent", source };
            process.stop(Duration::from_secs(10)).await.map_err(socket)?;
        }
        Ok(())
    }

    /// The process, if it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Everything that it logged.
    pub fn log(&self) -> PathBuf {
        self.log.clone()
    }

    /// Runs a command of the agent and returns what it prints.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Command`], if it does not end with 0.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, EnvironmentError> {
        let output = tokio::process::Command::from(self.command(arguments))
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| EnvironmentError::Spawn { program: "the agent's command line", source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let command = format!("portcullis {}", arguments.join(" "));
        let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        Err(EnvironmentError::Command { command, status: output.status, stderr })
    }

    /// `portcullis status -o json`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Command`], [`EnvironmentError::Unreadable`].
    pub async fn status(&self) -> Result<Status, EnvironmentError> {
        parse("the agent's status", &self.run(&["status", "-o", "json"]).await?)
    }

    /// `portcullis renew NAME`: returns when the new certificate is proven served.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Command`], [`EnvironmentError::Unreadable`].
    pub async fn renew(&self, name: &str) -> Result<Renewed, EnvironmentError> {
        parse("the answer to a renewal", &self.run(&["renew", name, "-o", "json"]).await?)
    }

    /// `portcullis issue`: a client certificate with this SPIFFE ID, and the CA to trust.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Command`], [`EnvironmentError::File`].
    pub async fn issue(&self, spiffe: &str, lifetime: &str) -> Result<Credentials, EnvironmentError> {
        let folder = self.log.with_extension(format!("issued-{}", self.issued.fetch_add(1, Ordering::Relaxed)));
        let out = folder.display().to_string();
        self.run(&["issue", "--spiffe", spiffe, "--client", "--lifetime", lifetime, "--out", &out]).await?;
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| EnvironmentError::File { doing: "read", path, source })
        };
        Ok(Credentials { chain_pem: read("fullchain.pem")?, key_pem: read("privkey.pem")?, ca_pem: read("ca.crt")? })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }
}

fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, EnvironmentError> {
    serde_json::from_str(text)
        .map_err(|error| EnvironmentError::Unreadable { what: what.to_owned(), text: format!("{error} in {text}") })
}
