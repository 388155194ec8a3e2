//! `portcullis policy`: what a policy says, without a proxy.

mod check;
mod decide;
mod diff;
mod explain;
mod input;
mod record;
mod render;
mod schema;
mod test;
mod verdict;
mod what;
mod who;

use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Subcommand;

use super::Global;
use super::Outcome;
use crate::policy_source::PolicySource;
use crate::policy_source::PolicySourceError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile the policy, run its tests, and report what is probably not meant: rules that are dead, shadowed,
    /// ambiguous or overlap, roles that nobody can have, times that are over, keys that verify nothing.
    Check(check::Args),
    /// Decide requests: one JSON object per line in, one per line out. Decision records of the filter are decided again.
    Decide(decide::Args),
    /// Show which verdicts another version of a policy changes.
    Diff(diff::Args),
    /// Decide requests and say what each rule about them lacked.
    Explain(decide::Args),
    /// Print the policy as the filter's plugin configuration.
    Render(render::Args),
    /// Print the JSON Schema of policies, for editors.
    Schema(schema::Args),
    /// Run the policy's own tests.
    Test(test::Args),
    /// Show what somebody can reach.
    What(what::Args),
    /// Show who can make a request.
    Who(who::Args),
}

impl Args {
    pub(super) fn run(self, _: &Global) -> Outcome {
        match self.command {
            Command::Check(args) => args.run(),
            Command::Decide(args) => args.run(),
            Command::Diff(args) => args.run(),
            Command::Explain(args) => explain::run(&args),
            Command::Render(args) => args.run(),
            Command::Schema(args) => args.run(),
            Command::Test(args) => args.run(),
            Command::What(args) => args.run(),
            Command::Who(args) => args.run(),
        }
    }
}

/// Which policy; with or without the option's name, for those who type and for those who write scripts.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct PolicyArg {
    /// The policy, YAML or JSON.
    #[arg(long = "policy", value_name = "FILE")]
    option: Option<PathBuf>,
    /// The policy, YAML or JSON.
    #[arg(value_name = "FILE")]
    positional: Option<PathBuf>,
}

impl PolicyArg {
    fn path(&self) -> &Path {
        self.option.as_deref().or(self.positional.as_deref()).expect("clap demands one of the two")
    }
}

/// Reads a policy. What is wrong with it goes to standard error with the line that it is about; `None` then.
fn load(file: &Path) -> Result<Option<PolicySource>, PolicySourceError> {
    match PolicySource::read(file) {
        Ok(source) => Ok(Some(source)),
        Err(PolicySourceError::Refused(error)) => {
            complain(&format!("{error:#}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads a policy that may be put in force: one that passes its own tests. `None` as with [`load`].
fn load_good(file: &Path) -> Result<Option<PolicySource>, PolicySourceError> {
    let Some(source) = load(file)? else { return Ok(None) };
    let failures = source.failures();
    for failure in &failures {
        complain(&format!("{failure:#}"));
    }
    Ok(if failures.is_empty() { Some(source) } else { None })
}

/// Writes a line to standard error. If that is closed there is nobody left to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Text that is missing because it makes no difference.
fn or_any(text: Option<&str>) -> String {
    text.unwrap_or("any").to_owned()
}
