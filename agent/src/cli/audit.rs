//! `portcullis audit`.

use std::io;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::Global;
use super::Outcome;
use super::print;
use crate::audit;
use crate::config::Config;
use crate::state_dir::audit_file;

/// Verify the audit log.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find the first line that was changed, is missing or is out of order.
    Verify {
        /// The log; by default that of the configuration.
        file: Option<PathBuf>,
    },
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let Command::Verify { file } = self.command;
        let file = match file {
            Some(file) => file,
            None => audit_file(&Config::load(&global.config)?.state_dir),
        };
        let verified = audit::verify(&file)?;
        if !verified.with_head {
            writeln!(io::stderr(), "the log's head is not beside it: lines missing at the end would not be found")?;
        }
        print(&format!("{}: {} lines, whole and in order\n", file.display(), verified.lines))?;
        Ok(ExitCode::SUCCESS)
    }
}
