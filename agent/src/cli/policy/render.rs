//! `portcullis policy render`.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use super::PolicyArg;
use super::complain;
use super::load_good;
use crate::cli::Outcome;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policy: PolicyArg,
}

impl Args {
    pub(super) fn run(self) -> Outcome {
        // What the filter would refuse is not handed to it.
        let Some(source) = load_good(self.policy.path())? else {
            return Ok(ExitCode::FAILURE);
        };
        if let Some(remote) = source.providers().remote.first() {
            let message = "the agent fetches the keys behind a URL, and here is none: save them and name the `file`";
            let at = format!("tokens.{}.jwks.url", remote.provider);
            complain(&format!("{:#}", source.remark(&at, message)));
            return Ok(ExitCode::FAILURE);
        }
        writeln!(io::stdout(), "{}", source.policy().to_json())?;
        Ok(ExitCode::SUCCESS)
    }
}
