//! `portcullis ca`.

mod offline;

use std::io;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::Global;
use super::Outcome;
use super::client::ask;
use super::output::Colour;
use super::output::Format;
use super::output::Rows;
use super::output::Tone;
use super::output::json;
use super::output::short;
use super::output::span;
use super::print;
use super::wait::duration;
use crate::ca;
use crate::command::RootsAsk;
use crate::config::Config;
use crate::control_client::ControlClient;
use crate::control_client::ControlError;
use crate::state_dir::ca_directory;
use crate::status::CaStatus;

/// How often the agent is asked how far it is. The answer comes from its memory.
const PERIOD: Duration = Duration::from_millis(200);

/// Show the built-in CA of the running agent, and have one root follow another.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take an intermediate that `portcullis ca sign` signed, after a look at it as a peer would take.
    Install(offline::Install),
    /// Make a root, with its key, where it is to be kept: for agents with `ca.root: offline`.
    MakeRoot(offline::MakeRoot),
    /// Remove a root under which nobody has a certificate any more, or one that follows and signs nothing yet.
    Remove {
        /// The beginning of its SHA-256, as `portcullis ca` shows it.
        sha256: String,
    },
    /// Print a request for the next intermediate, for `portcullis ca sign` where the root's key is.
    Request(offline::Request),
    /// Have another root follow the one that signs, in the safe order: add it to every bundle, see that everybody took it,
    /// sign with it, wait until the last certificate under the old one has ended, remove that.
    ///
    /// Each step is written down before it is taken: it goes on after a crash, and without this command.
    Rotate {
        /// Have another intermediate follow the one that signs, and not another root. Nobody has to wait for that.
        #[arg(long, conflicts_with_all = ["no_wait", "timeout"])]
        intermediate: bool,
        /// Begin, and do not wait for the end.
        #[arg(long)]
        no_wait: bool,
        /// How long to wait, as in `30s`, `24h`; for as long as it takes, if not given. It goes on all the same.
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Print the trusted roots, PEM.
    Show,
    /// Sign a request for an intermediate, where the root's key is. Needs no agent.
    Sign(offline::Sign),
    /// Sign with the new root without waiting for those who were issued a certificate before it was added: they know it.
    Switch,
}

/// It is not done yet.
#[derive(Debug, thiserror::Error)]
#[error("the new root is not alone after {after:?} (step `{step}`); it goes on: `portcullis ca` says how far it is")]
struct NotYet {
    after: Duration,
    step: String,
}

/// Why there is no new root.
#[derive(Debug, thiserror::Error)]
enum RotateError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the new root was taken back before it signed anything (`portcullis ca remove`); the old one goes on")]
    TakenBack,
}

/// SHA-256 of the root that signs.
fn signs(ca: &CaStatus) -> Option<&String> {
    ca.roots.iter().find(|root| root.signs).map(|root| &root.sha256)
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.command {
            None => {
                let status = ask(global, Some(Duration::from_secs(10)), async |client| client.status().await)?;
                print(&match self.output {
                    Format::Json => json(&status.ca)?,
                    Format::Table => render(&status.ca, Timestamp::now(), Colour::of_stdout()),
                })?;
            }
            Some(Command::Show) => {
                let config = Config::load(&global.config)?;
                print(&ca::root_pem(&ca_directory(&config.state_dir))?)?;
            }
            Some(Command::Remove { sha256 }) => tell(global, RootsAsk::Remove(sha256))?,
            Some(Command::Switch) => tell(global, RootsAsk::Vouch)?,
            Some(Command::Install(install)) => return install.run(global),
            Some(Command::MakeRoot(make)) => return make.run(),
            Some(Command::Request(request)) => return request.run(global),
            Some(Command::Sign(sign)) => return sign.run(),
            Some(Command::Rotate { intermediate: true, .. }) => tell(global, RootsAsk::Intermediate)?,
            Some(Command::Rotate { no_wait: true, .. }) => tell(global, RootsAsk::Rotate)?,
            Some(Command::Rotate { timeout, .. }) => {
                let left = ask(global, None, async |client| rotate(&client, timeout).await)?;
                if let Some(step) = left {
                    return Err(NotYet { after: timeout.unwrap_or_default(), step }.into());
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(global: &Global, what: RootsAsk) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ask(global, Some(Duration::from_secs(30)), async |client| client.roots(&what).await)
}

/// Begins, and says on standard error how far it is until it is done. Returns the step at which time was up.
async fn rotate(client: &ControlClient, timeout: Option<Duration>) -> Result<Option<String>, RotateError> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let before = client.status().await?.ca;
    client.roots(&RootsAsk::Rotate).await?;
    let mut said = String::new();
    let mut step = "add".to_owned();
    loop {
        let answer = match deadline {
            None => client.status().await,
            Some(deadline) => match timeout_at(deadline, client.status()).await {
                Ok(answer) => answer,
                Err(_) => return Ok(Some(step)),
            },
        };
        let now = match answer {
            Ok(status) => match &status.ca.succession {
                None if status.ca.roots.is_empty() => "the agent starts".to_owned(),
                // The status may be of a moment before it began.
                None if said.is_empty() && status.ca.roots == before.roots => String::new(),
                None if signs(&status.ca) == signs(&before) => return Err(RotateError::TakenBack),
                None => return Ok(None),
                Some(succession) => {
                    step.clone_from(&succession.step);
                    let waits = succession.waits_for.as_deref().map(|waits| format!(": waits for {waits}"));
                    format!("{}{}", succession.step, waits.unwrap_or_default())
                }
            },
            Err(error @ (ControlError::NotRunning { .. } | ControlError::Interrupted { .. })) => {
                format!("{error}; it goes on when the agent does")
            }
            Err(error) => return Err(error.into()),
        };
        if now != said {
            // Standard error may be closed; then nobody waits for the news.
            let _ = writeln!(io::stderr(), "{now}");
            said = now;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Some(step));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn render(ca: &CaStatus, now: Timestamp, colour: Colour) -> String {
    let mut rows = Rows::new(colour, &["ROOT", "EXPIRES IN", "SIGNS", "ISSUED TO OTHERS"]);
    for root in &ca.roots {
        let tone = if root.is_old(now) { Tone::Bad } else { Tone::Plain };
        let others = match root.others_until {
            Some(until) if until.as_second() >= now.as_second() => format!("good for {}", span(now, until)),
            _ => "none that is good".to_owned(),
        };
        rows.push([
            (Tone::Plain, short(&root.sha256).to_owned()),
            (tone, span(now, root.not_after)),
            (Tone::Plain, if root.signs { "yes" } else { "no" }.to_owned()),
            (Tone::Plain, others),
        ]);
    }
    let mut text = rows.render();
    match (&ca.succession, ca.next) {
        (Some(succession), _) => {
            let waits =
                succession.waits_for.as_deref().map_or_else(String::new, |waits| format!(", waits for {waits}"));
            let until = succession.until.map_or_else(String::new, |until| format!(" (in {})", span(now, until)));
            text.push_str(&format!(
                "\nanother root follows since {} ago, by {}: step `{}`{waits}{until}\n",
                span(succession.begun, now),
                succession.by,
                succession.step
            ));
        }
        (None, Some(next)) => text.push_str(&format!("\nanother root follows in {}\n", span(now, next))),
        (None, None) => {}
    }
    if let Some(one) = &ca.intermediate {
        let next = match (&one.waits_for, one.next) {
            (Some(waits), _) => format!("; the next one waits for {waits}"),
            (None, Some(next)) => format!("; another one follows in {}", span(now, next)),
            (None, None) => String::new(),
        };
        let (serial, ends) = (short(&one.serial), span(now, one.not_after));
        text.push_str(&format!("\nleaves are signed by intermediate {serial}, which ends in {ends}{next}\n"));
    }
    if let Some(wanted) = &ca.wanted {
        text.push_str(&format!("\n{wanted}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::RootStatus;
    use crate::status::SuccessionStatus;

    #[test]
    fn the_roots_and_what_is_waited_for() {
        let at = |seconds| Timestamp::from_second(seconds).expect("a time");
        let root = |sha256: &str, signs, others_until| RootStatus {
            sha256: sha256.repeat(32),
            not_before: at(0),
            not_after: at(864_000),
            signs,
            others_until,
        };
        let succession = SuccessionStatus {
            step: "wait".to_owned(),
            by: "operator".to_owned(),
            begun: at(940),
            waits_for: Some("the end of it all".to_owned()),
            until: Some(at(1_060)),
        };
        let ca = CaStatus {
            roots: vec![root("ab", false, Some(at(1_060))), root("cd", true, None)],
            succession: Some(succession),
            ..CaStatus::default()
        };
        let want = "\
ROOT          EXPIRES IN  SIGNS  ISSUED TO OTHERS
abababababab  9 d 23 h    no     good for 1 min
cdcdcdcdcdcd  9 d 23 h    yes    none that is good

another root follows since 1 min ago, by operator: step `wait`, waits for the end of it all (in 1 min)
";
        assert_eq!(render(&ca, at(1_000), Colour::Never), want);
    }
}
