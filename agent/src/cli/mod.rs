//! The command line: one file a subcommand.
//!
//! Standard output is data, everything else goes to standard error. Exit status 0: done; 1: failed; 2: wrong usage.

mod policy;

use std::error::Error;
use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

use crate::errors::chain;

/// The gate and the gatekeeper for a proxy that speaks mTLS.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check, test and question a policy, offline.
    Policy(policy::Args),
}

/// How a subcommand ends.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Policy(args) => args.run(),
    };
    outcome.unwrap_or_else(|error| {
        // Standard error may be closed; there is nobody left to tell.
        let _ = writeln!(io::stderr(), "portcullis: {}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}
