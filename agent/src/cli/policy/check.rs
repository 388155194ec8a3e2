//! `portcullis policy check`.
//!
//! A remark is about something that is probably not meant; it does not make a policy bad.

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
        let findings = source.policy().check();
        let mut out = io::stdout().lock();
        for finding in &findings {
            let message = format!("{}: {finding}", finding.code());
            writeln!(out, "{:#}", source.remark(finding.path(), &message))?;
        }
        let file = self.policy.path().display();
        let (rules, tests) = (source.policy().rule_count(), source.test_count());
        let version = source.policy().version();
        let remarks = findings.len();
        writeln!(out, "{file}: good: {rules} rules, {tests} tests passed, {remarks} remarks, version {version}")?;
        Ok(ExitCode::SUCCESS)
    }
}
