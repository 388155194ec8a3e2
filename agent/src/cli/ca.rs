//! `portcullis ca`.

use std::process::ExitCode;

use clap::Subcommand;

use super::Global;
use super::Outcome;
use super::print;
use crate::ca;
use crate::config::Config;
use crate::state_dir::ca_directory;

/// Show the built-in CA.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the root certificate, PEM.
    Show,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let Command::Show = self.command;
        let config = Config::load(&global.config)?;
        print(&ca::root_pem(&ca_directory(&config.state_dir))?)?;
        Ok(ExitCode::SUCCESS)
    }
}
