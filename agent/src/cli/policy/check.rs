//! `portcullis policy check`.

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
        if !failures.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        let file = self.policy.path().display();
        let (rules, tests) = (source.policy().rule_count(), source.test_count());
        let version = source.policy().version();
        writeln!(io::stdout(), "{file}: good: {rules} rules, {tests} tests passed, version {version}")?;
        Ok(ExitCode::SUCCESS)
    }
}
