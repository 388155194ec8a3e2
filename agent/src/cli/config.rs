//! `portcullis config`: the agent's own configuration, without the agent.

use std::process::ExitCode;

use clap::Subcommand;

use super::Global;
use super::Outcome;
use super::print;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the JSON Schema of `portcullis.yaml`, for editors.
    ///
    /// An editor with the YAML language server completes and explains fields if the file begins with
    /// `# yaml-language-server: $schema=portcullis.schema.json`.
    #[command(after_help = "Example:
  portcullis config schema > portcullis.schema.json")]
    Schema,
}

impl Args {
    pub(super) fn run(self, _: &Global) -> Outcome {
        match self.command {
            Command::Schema => print(crate::config::SCHEMA)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
