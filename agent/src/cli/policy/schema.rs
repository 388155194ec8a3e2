//! `portcullis policy schema`.

use std::process::ExitCode;

use crate::cli::Outcome;
use crate::cli::print;

/// Print the JSON Schema of policies, for editors.
///
/// An editor with the YAML language server completes and explains fields if the policy begins with
/// `# yaml-language-server: $schema=policy.schema.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  portcullis policy schema > policy.schema.json")]
pub(super) struct Args {}

impl Args {
    pub(super) fn run(self) -> Outcome {
        print(portcullis_policy::SCHEMA)?;
        Ok(ExitCode::SUCCESS)
    }
}
