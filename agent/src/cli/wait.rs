//! `portcullis wait`.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout_at;

use super::Global;
use super::Outcome;
use super::client::ask;
use super::progress::Progress;
use super::verify::is_current;
use crate::config::parse_duration;
use crate::control_client::ControlClient;
use crate::control_client::ControlError;
use crate::status::Status;

/// How often the agent is asked. The answer comes from its memory.
const PERIOD: Duration = Duration::from_millis(100);

/// Time for an answer, however little is left: `--timeout 0s` asks once, also on a busy machine.
const ANSWER: Duration = Duration::from_secs(1);

/// Wait for the agent, for scripts that go on when it is done.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to wait for.
    #[arg(long = "for", value_enum)]
    goal: Goal,
    /// How long, as in `30s`, `5m`; `0s` asks once.
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Goal {
    /// Everything stored is served and the policy is in force.
    Ready,
    /// Every stored certificate is served.
    Served,
}

/// It did not happen in time.
#[derive(Debug, thiserror::Error)]
#[error("not {goal} after {timeout:?}: {why}")]
struct TimedOut {
    goal: &'static str,
    timeout: Duration,
    why: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let last = ask(global, None, async |client| self.wait(&client).await)?;
        match last {
            None => Ok(ExitCode::SUCCESS),
            Some(timed_out) => Err(Box::<dyn Error + Send + Sync>::from(timed_out)),
        }
    }

    /// Asks until the goal is reached. An agent that does not run yet is waited for as well.
    async fn wait(&self, client: &ControlClient) -> Result<Option<TimedOut>, ControlError> {
        let deadline = Instant::now() + self.timeout;
        let mut progress = Progress::on_stderr();
        loop {
            let answer_by = deadline.max(Instant::now() + ANSWER);
            let why = match timeout_at(answer_by, client.status()).await {
                Err(_) => "the agent does not answer".to_owned(),
                Ok(Ok(status)) => match self.goal.missing(&status) {
                    None => return Ok(None),
                    Some(why) => why,
                },
                Ok(Err(error @ (ControlError::NotRunning { .. } | ControlError::Interrupted { .. }))) => {
                    error.to_string()
                }
                Ok(Err(error)) => return Err(error),
            };
            if Instant::now() >= deadline {
                return Ok(Some(TimedOut { goal: self.goal.name(), timeout: self.timeout, why }));
            }
            progress.tell(&format!("waiting until {}: {why}", self.goal.name()));
            tokio::time::sleep(PERIOD).await;
        }
    }
}

impl Goal {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Served => "served",
        }
    }

    /// What stands in the way; none if it is reached.
    fn missing(self, status: &Status) -> Option<String> {
        match self {
            Self::Ready if status.ready => None,
            Self::Ready if status.reasons.is_empty() => Some("the agent is starting".to_owned()),
            Self::Ready => Some(status.reasons.join("; ")),
            Self::Served if status.certificates.is_empty() => Some("the agent has no certificates".to_owned()),
            Self::Served => {
                let missing = status.certificates.iter().filter(|certificate| !is_current(certificate));
                let names: Vec<String> = missing.map(|certificate| format!("`{}`", certificate.name)).collect();
                (!names.is_empty()).then(|| names.join(", "))
            }
        }
    }
}

/// Reads a duration as the configuration writes it, for an argument.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = parse_duration(text).filter(|seconds| *seconds >= 0);
    let seconds = seconds.ok_or_else(|| "not a duration, as in `30s`, `5m`, `24h`".to_owned())?;
    Ok(Duration::from_secs(seconds.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let mut status = Status { reasons: vec!["a".to_owned(), "b".to_owned()], ..Status::default() };
        assert_eq!(Goal::Ready.missing(&status).unwrap(), "a; b");
        assert_eq!(Goal::Served.missing(&status).unwrap(), "the agent has no certificates");
        status.ready = true;
        assert_eq!(Goal::Ready.missing(&status), None);
    }

    #[tokio::test]
    async fn an_agent_that_never_comes_is_an_answer_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let client = ControlClient::new(directory.path().join("control.sock"));
        let args = Args { goal: Goal::Ready, timeout: Duration::ZERO };
        let timed_out = args.wait(&client).await.unwrap().unwrap();
        assert!(timed_out.to_string().contains("is the agent running?"), "{timed_out}");
    }

    #[tokio::test]
    async fn one_question_is_answered_without_any_time_to_wait() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let slow = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let status = serde_json::to_string(&Status { ready: true, ..Status::default() }).unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{status}", status.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let args = Args { goal: Goal::Ready, timeout: Duration::ZERO };
        let client = ControlClient::new(socket);
        assert!(args.wait(&client).await.unwrap().is_none());
        slow.await.unwrap();
    }
}
