//! `portcullis policy check`.
//!
//! A remark is about something that is probably not meant; it does not make a policy bad.

use std::fs;
use std::io;
use std::process::ExitCode;

use portcullis_policy::Finding;
use portcullis_policy::UnixTime;
use portcullis_policy::token::KeySet;
use serde::Serialize;

use super::PolicyArg;
use super::load_good;
use crate::cli::Outcome;
use crate::cli::output::Format;
use crate::cli::output::json;
use crate::cli::print;
use crate::leaf::now;
use crate::policy_source::PolicySource;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyArg,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A policy that is good.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    file: String,
    version: &'a str,
    rules: usize,
    tests: usize,
    remarks: Vec<Remark>,
}

#[derive(Debug, Serialize)]
struct Remark {
    code: &'static str,
    path: String,
    line: usize,
    column: usize,
    message: String,
}

impl Args {
    pub(super) fn run(self) -> Outcome {
        let Some(source) = load_good(self.policy.path())? else {
            return Ok(ExitCode::FAILURE);
        };
        let policy = source.policy();
        let findings = findings(&source, now())?;
        let file = self.policy.path().display().to_string();
        let (rules, tests, version) = (policy.rule_count(), source.test_count(), policy.version());
        match self.output {
            Format::Json => {
                let remarks = findings.iter().map(|finding| {
                    let message = finding.to_string();
                    let place = source.remark(finding.path(), &message).place();
                    let path = finding.path().to_owned();
                    Remark { code: finding.code(), path, line: place.line, column: place.column, message }
                });
                print(&json(&Checked { file, version, rules, tests, remarks: remarks.collect() })?)?;
            }
            Format::Table => {
                let mut text = String::new();
                for finding in &findings {
                    let message = format!("{}: {finding}", finding.code());
                    text.push_str(&format!("{:#}\n", source.remark(finding.path(), &message)));
                }
                let remarks = findings.len();
                text.push_str(&format!(
                    "{file}: good: {rules} rules, {tests} tests passed, {remarks} remarks, version {version}\n"
                ));
                print(&text)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is found in the policy, and in the key sets that it names by file: it has only what is usable and public of them. Keys
/// behind a URL are the agent's to fetch: here they are not missed.
fn findings(source: &PolicySource, now: UnixTime) -> io::Result<Vec<Finding>> {
    let providers = source.providers();
    let remote = |name: &str| providers.remote.iter().any(|remote| remote.provider == name);
    let mut findings = source.policy().check(now);
    findings.retain(|finding| !matches!(finding, Finding::NoKeys { provider, .. } if remote(provider)));
    for (provider, file, algorithms) in &providers.files {
        // It was a key set when the policy was compiled.
        if let Ok(set) = KeySet::from_json(&fs::read(file)?, algorithms) {
            findings.extend(Finding::of_keys(&format!("tokens.{provider}.jwks.file.keys"), &set));
        }
    }
    Ok(findings)
}
