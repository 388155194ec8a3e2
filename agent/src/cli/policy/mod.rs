//! `portcullis policy`: what a policy says, without a proxy.

mod check;
mod decide;
mod explain;
mod input;
mod render;
mod test;

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
    /// Compile the policy, run its tests, and report rules that are dead, shadowed or ambiguous.
    Check(check::Args),
    /// Decide requests: one JSON object per line in, one per line out.
    Decide(decide::Args),
    /// Decide requests and say what each rule about them lacked.
    Explain(decide::Args),
    /// Print the policy as the filter's plugin configuration.
    Render(render::Args),
    /// Run the policy's own tests.
    Test(test::Args),
}

impl Args {
    pub(super) fn run(self, _: &Global) -> Outcome {
        match self.command {
            Command::Check(args) => args.run(),
            Command::Decide(args) => args.run(),
            Command::Explain(args) => explain::run(&args),
            Command::Render(args) => args.run(),
            Command::Test(args) => args.run(),
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

/// Writes a line to standard error. If that is closed there is nobody left to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
