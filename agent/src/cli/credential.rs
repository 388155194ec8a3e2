//! `portcullis credential`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use clap::ValueEnum;

use super::Global;
use super::Outcome;
use super::client::ask;
use super::output::Format;
use super::output::json;
use super::print;
use super::wait::duration;
use crate::command::Urgency;
use crate::control::CredentialRequest;
use crate::credential::Given;
use crate::credential::Rotated;

/// Rotate credentials, and read those that the agent hands out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a credential; one that is made on first use is made now.
    ///
    /// Whoever may use the control socket may read it, and the audit log has who did and why. Without `--field` the secret
    /// is printed alone, with no line's end after it, as `psql` and others take it from a substitution.
    Read(Read),
    /// Rotate a credential now and wait until everybody has the new one.
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
struct Read {
    /// Name of the credential in the configuration.
    name: String,
    /// What to print of it.
    #[arg(long, value_enum, default_value_t, conflicts_with = "output")]
    field: Field,
    /// Why, for the audit log.
    #[arg(long)]
    why: Option<String>,
    /// Print all of it.
    #[arg(short, long, value_enum)]
    output: Option<All>,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Field {
    /// Who logs in.
    Account,
    /// What it is called in the status and the audit log.
    Id,
    /// What for.
    #[default]
    Secret,
}

/// How all of it is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum All {
    /// A JSON object.
    Json,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    /// Name of the credential in the configuration.
    name: String,
    /// Rotate in a blackout as well.
    #[arg(long)]
    emergency: bool,
    /// Why, for the audit log.
    #[arg(long)]
    why: Option<String>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "2m", value_parser = duration)]
    timeout: Duration,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.command {
            Command::Read(args) => args.run(global),
            Command::Rotate(args) => args.run(global),
        }
    }
}

impl Read {
    fn run(self, global: &Global) -> Outcome {
        let request = CredentialRequest { name: self.name, why: self.why, urgency: Urgency::Planned };
        let given = ask(global, Some(self.timeout), async |client| client.read_credential(&request).await)?;
        match (self.output, self.field) {
            (Some(All::Json), _) => print(&json(&given)?)?,
            (None, Field::Secret) => print(&given.secret)?,
            (None, Field::Account) => print(account(&given)?)?,
            (None, Field::Id) => print(&given.id)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn account(given: &Given) -> Result<&str, String> {
    given.account.as_deref().ok_or_else(|| format!("credential `{}` has no account", given.name))
}

impl Rotate {
    fn run(self, global: &Global) -> Outcome {
        let urgency = if self.emergency { Urgency::Emergency } else { Urgency::Planned };
        let request = CredentialRequest { name: self.name, why: self.why, urgency };
        let rotated = ask(global, Some(self.timeout), async |client| client.rotate_credential(&request).await)?;
        print(&match self.output {
            Format::Json => json(&rotated)?,
            Format::Table => render(&rotated),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn render(rotated: &Rotated) -> String {
    let old = rotated.old_id.as_deref().unwrap_or("none");
    format!("{}: {old} -> {}\n", rotated.name, rotated.new_id)
}
