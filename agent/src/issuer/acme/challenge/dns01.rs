//! `dns-01` through a program (RFC 8555 §8.4): it is called with `present` or `cleanup`, the record's name and its value.

use std::io;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::TxtRecord;
use crate::hook::INHERITED;
use crate::issuer::acme::error::AcmeError;
use crate::issuer::acme::problem::clean;

/// What is kept of what a program says.
const LONGEST: usize = 2_000;

/// Why the program did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It said so.
    #[error("`{program}` ended with {status}: {said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// It is not there, or may not be run.
    #[error("cannot run `{program}`")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It was killed.
    #[error("`{program}` took longer than {within:?} and was killed")]
    TimedOut {
        /// The program.
        program: String,
        /// How long it had.
        within: Duration,
    },
}

/// A program that changes the DNS.
#[derive(Clone, Debug)]
pub(in crate::issuer::acme) struct Hook {
    argv: Vec<String>,
    within: Duration,
}

/// Records that are in place, or may be.
pub(in crate::issuer::acme) struct Records {
    hook: Hook,
    records: Vec<TxtRecord>,
}

/// A process group that does not outlive its owner.
struct Group(Option<Pid>);

impl Hook {
    pub(super) fn new(argv: Vec<String>, within: Duration) -> Self {
        Self { argv, within }
    }

    /// Puts the records in place, one after the other.
    pub(super) async fn present(&self, records: Vec<TxtRecord>) -> Result<Records, AcmeError> {
        let mut placed = Records { hook: self.clone(), records: Vec::new() };
        for record in records {
            // Before it is tried: a program that was killed may have done its work.
            placed.records.push(record.clone());
            if let Err(source) = self.run("present", &record).await {
                placed.remove().await;
                return Err(AcmeError::Hook { record: record.name, source });
            }
        }
        Ok(placed)
    }

    /// Takes the records away. What fails is told and changes nothing: a record that stays proves nothing any more.
    pub(super) async fn remove(&self, records: &[TxtRecord]) {
        for record in records {
            if let Err(error) = self.run("cleanup", record).await {
                let error = crate::errors::chain(&error);
                tracing::warn!(record = record.name, error, "the DNS record was not taken away");
            }
        }
    }

    async fn run(&self, action: &str, record: &TxtRecord) -> Result<(), HookError> {
        let program = self.argv.first().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(self.argv.get(1..).unwrap_or_default()).args([action, &record.name, &record.value]);
        // What else the agent was given is not the program's business.
        command.env_clear().envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Of its own, so that everything that it starts can be ended with it.
        command.process_group(0).kill_on_drop(true);
        let spawn = |source| HookError::Spawn { program: program.clone(), source };
        let mut child = command.spawn().map_err(spawn)?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = tokio::time::timeout(self.within, async move {
            let status = async {
                let status = child.wait().await;
                // What it left behind would hold its output open.
                drop(group);
                status
            };
            let (_, said, status) = tokio::join!(last_words(stdout), last_words(stderr), status);
            (said, status)
        });
        match ended.await {
            Ok((_, Ok(status))) if status.success() => Ok(()),
            Ok((said, Ok(status))) => Err(HookError::Failed { program, status, said }),
            Ok((_, Err(source))) => Err(HookError::Spawn { program, source }),
            Err(_) => Err(HookError::TimedOut { program, within: self.within }),
        }
    }
}

impl Records {
    /// Takes them away.
    pub(super) async fn remove(mut self) {
        let records = std::mem::take(&mut self.records);
        self.hook.clone().remove(&records).await;
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return;
        }
        // Whoever waited for the order does so no more, and nobody else would take them away.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let hook = self.hook.clone();
            runtime.spawn(async move { hook.remove(&records).await });
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.take() {
            // Nobody may be left.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Reads everything, so that the program is not held up, and keeps the end.
async fn last_words(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(LONGEST));
    }
    // The last line alone: what a program tells of its doings may hold what it logs in with.
    let said = String::from_utf8_lossy(&kept);
    clean(said.trim().lines().next_back().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn hook(script: &str, within: Duration) -> Hook {
        Hook::new(["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec(), within)
    }

    fn record() -> TxtRecord {
        TxtRecord { name: "_acme-challenge.a.example".to_owned(), value: "v; touch /tmp/never".to_owned() }
    }

    async fn run(script: &str, within: Duration) -> Result<(), HookError> {
        hook(script, within).run("present", &record()).await
    }

    /// Waits for a process to be gone.
    fn is_gone(pid: &str) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            // One that nobody has reaped yet is gone as well.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    #[tokio::test]
    async fn a_program_is_told_what_to_do_as_arguments_and_no_shell_sees_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("printf '%s|' \"$@\" > {}", out.display());
        run(&script, Duration::from_secs(20)).await.expect("done");
        let told = std::fs::read_to_string(out).expect("written");
        assert_eq!(told, "present|_acme-challenge.a.example|v; touch /tmp/never|");
    }

    #[tokio::test]
    async fn the_last_line_of_what_a_program_says_is_heard_up_to_a_bound() {
        let error = run(
            "head -c 50000000 /dev/zero; echo 'token: s3cret' >&2; echo 'no zone' >&2; exit 7",
            Duration::from_secs(60),
        )
        .await;
        let error = error.expect_err("it failed");
        assert!(
            matches!(&error, HookError::Failed { said, status, .. } if said == "no zone" && status.code() == Some(7))
        );
        let loud = "yes | head -c 5000000 >&2; exit 1";
        let error = run(loud, Duration::from_secs(60)).await.expect_err("it failed").to_string();
        assert!(error.len() < LONGEST + 200, "{}", error.len());
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_everything_that_it_started() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", out.display());
        let error = run(&script, Duration::from_secs(3)).await.expect_err("it hung");
        assert!(matches!(error, HookError::TimedOut { .. }), "{error:?}");
        let pid = std::fs::read_to_string(out).expect("written");
        assert!(is_gone(pid.trim()), "{pid}");
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_is_ended_and_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("sleep 1000 & echo $! > {}", out.display());
        run(&script, Duration::from_secs(600)).await.expect("done");
        let pid = std::fs::read_to_string(out).expect("written");
        assert!(is_gone(pid.trim()), "{pid}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let hook = Hook::new(vec!["/nowhere/hook".to_owned()], Duration::from_secs(1));
        let error = hook.run("present", &record()).await.expect_err("not there");
        assert_eq!(error.to_string(), "cannot run `/nowhere/hook`");
        assert!(!Path::new("/tmp/never").exists());
    }

    #[tokio::test]
    async fn a_record_that_fails_takes_those_before_it_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("echo $1 $2 >> {}; test \"$1 $2\" != 'present bad'", out.display());
        let records = ["good", "bad", "never"].map(|name| TxtRecord { name: name.to_owned(), value: "v".to_owned() });
        let outcome = hook(&script, Duration::from_secs(20)).present(records.to_vec()).await;
        assert!(matches!(outcome, Err(AcmeError::Hook { record, .. }) if record == "bad"));
        let told = std::fs::read_to_string(out).expect("written");
        assert_eq!(told, "present good\npresent bad\ncleanup good\ncleanup bad\n");
    }
}
