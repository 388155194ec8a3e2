//! Hooks: programs of the operator's that are told of a new certificate, as an array of arguments and never through a shell.
//!
//! A hook is over when its program is, or when its time is; whatever it started and left in its process group ends with it.
//! What it is told comes as JSON on its standard input. What it prints is read to the end and kept in part, and a line of
//! that may be repeated, but never a key. It may be run more than once for one certificate, so it must be safe to repeat.

mod output;
mod program;
mod running;

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Seek as _;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde::Deserialize;
use serde::Serialize;

use output::Output;
use running::Running;

pub(crate) use program::find;

/// Variables of the agent's own environment that hooks get; others may hold what is nobody's business.
pub(crate) const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// When a hook is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The proxies and the files have the new certificate; it is not proven yet. To have a program read its files again.
    #[default]
    Installed,
    /// The new certificate was seen in use. To tell others.
    Served,
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "installed",
            Self::Served => "served",
        })
    }
}

/// A hook of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Absolute, or a bare name that is looked for on `PATH`.
    pub program: PathBuf,
    /// What follows it.
    pub arguments: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// When it is run.
    pub when: When,
}

/// What a hook is told, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Occasion<'a> {
    /// What happened.
    pub event: When,
    /// Name of the certificate in the configuration.
    pub name: &'a str,
    /// Its SPIFFE ID or first name.
    pub identity: String,
    /// Its DNS names and addresses.
    pub names: Vec<String>,
    /// Serial before, hex; none at the first.
    pub old_serial: Option<&'a str>,
    /// Serial now, hex.
    pub new_serial: &'a str,
    /// Directory of the files, if there are some.
    pub directory: Option<&'a Path>,
    /// Why it was replaced, or delivered again: a stable code.
    pub cause: &'a str,
}

/// Why a hook did not do what it is for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It ended badly.
    #[error("hook `{}` ended with {how}{}", path.display(), words(said.as_deref()))]
    Failed {
        /// The program.
        path: PathBuf,
        /// `exit status: 3`, `signal: 9 (SIGKILL)`.
        how: String,
        /// The last line that it printed.
        said: Option<String>,
    },
    /// Nobody may run it.
    #[error("hook `{}` is not executable; run `chmod +x` on it", path.display())]
    NotExecutable {
        /// The program.
        path: PathBuf,
    },
    /// It is not there.
    #[error("hook `{}` is not there{}", path.display(), if path.is_absolute() { "" } else { ", nowhere on `PATH`" })]
    Missing {
        /// The program.
        path: PathBuf,
    },
    /// It could not be started or waited for.
    #[error("hook `{}` cannot be run", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It took too long and was killed, with all that it had started.
    #[error("hook `{}` did not end within {after:?} and was killed{}", path.display(), words(said.as_deref()))]
    TimedOut {
        /// The program.
        path: PathBuf,
        /// How long it had.
        after: Duration,
        /// The last line that it had printed.
        said: Option<String>,
    },
}

fn words(said: Option<&str>) -> String {
    said.map(|said| format!(": {said}")).unwrap_or_default()
}

impl Hook {
    /// Runs it to its end, and says how it went. `key` is what it must not be quoted with.
    ///
    /// # Errors
    ///
    /// [`HookError`].
    pub async fn run(&self, occasion: &Occasion<'_>, key: &str) -> Result<String, HookError> {
        let lineage = occasion.directory.map(|directory| ("RENEWED_LINEAGE", directory.display().to_string()));
        let domains = ("RENEWED_DOMAINS", occasion.names.join(" "));
        let json = serde_json::to_vec(occasion).expect("an occasion is made of strings");
        self.run_with(&json, lineage.into_iter().chain([domains]), key).await
    }

    /// Runs it to its end, told this, and says how it went.
    ///
    /// # Errors
    ///
    /// [`HookError`].
    pub(crate) async fn run_with(
        &self,
        json: &[u8],
        variables: impl IntoIterator<Item = (&'static str, String)>,
        key: &str,
    ) -> Result<String, HookError> {
        let Ended { path, status, output } = self.run_to_end(json, variables).await?;
        let said = output.last_line(key);
        let Some(status) = status else { return Err(HookError::TimedOut { path, after: self.timeout, said }) };
        match status {
            Ok(status) if status.success() => {
                Ok(format!("hook `{}` ended well{}", path.display(), words(said.as_deref())))
            }
            Ok(status) => Err(HookError::Failed { path, how: status.to_string(), said }),
            Err(source) => Err(HookError::Run { path, source }),
        }
    }

    /// Runs it to its end, told this; how that was is the caller's to judge.
    ///
    /// # Errors
    ///
    /// [`HookError`], where it could not be run.
    pub(crate) async fn run_to_end(
        &self,
        json: &[u8],
        variables: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Ended, HookError> {
        let path = find(&self.program)?;
        let failed = |source| HookError::Run { path: path.clone(), source };
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut command = Command::new(&path);
        command
            .args(&self.arguments)
            .current_dir("/")
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(variables)
            .stdin(told(json).map_err(failed)?)
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer)
            .process_group(0);
        let mut running = Running::start(&mut command).map_err(failed)?;
        // It holds the pipe's other end.
        drop(command);
        let mut output = Output::new(OwnedFd::from(reader)).map_err(failed)?;
        let ended = tokio::time::timeout(self.timeout, async {
            tokio::select! {
                ended = running.ended() => ended,
                never = output.read() => match never {},
            }
        })
        .await;
        let status = running.end().await;
        Ok(Ended { path, status: ended.ok().map(|ended| ended.and(status)), output })
    }
}

/// A program that ended, or was ended.
pub(crate) struct Ended {
    /// The program.
    pub(crate) path: PathBuf,
    /// How; none if its time was over.
    pub(crate) status: Option<io::Result<ExitStatus>>,
    /// What it printed.
    pub(crate) output: Output,
}

/// A file in memory, so that a hook that does not read holds up nobody.
fn told(json: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(rustix::fs::memfd_create("occasion", MemfdFlags::CLOEXEC)?);
    file.write_all(json)?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests;
