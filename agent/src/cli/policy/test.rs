//! `portcullis policy test`.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use super::PolicyArg;
use super::complain;
use super::load;
use crate::cli::Outcome;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyArg,
}

impl Args {
    pub(super) fn run(self) -> Outcome {
        let Some(source) = load(self.policy.path())? else {
            return Ok(ExitCode::FAILURE);
        };
        let failures = source.failures();
        for failure in &failures {
            complain(&format!("{failure:#}"));
        }
        let failed = failures.len();
        writeln!(io::stdout(), "{} passed, {failed} failed", source.test_count().saturating_sub(failed))?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
