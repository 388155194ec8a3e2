//! `portcullis run`.

use std::process::ExitCode;

use super::Global;
use super::Outcome;
use crate::config::Config;
use crate::daemon;
use crate::daemon::DaemonError;
use crate::errors::chain;

/// `EX_TEMPFAIL` of sysexits.h: whoever begins the agent again cures it, if anybody does.
const AGAIN: u8 = 75;

/// Run the agent in the foreground.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only look whether the configuration is good.
    #[arg(long)]
    check: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        // Whatever is created is for this user, also where no mode is given.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let config = Config::load(&global.config)?;
        if self.check {
            daemon::check(&config)?;
            return Ok(ExitCode::SUCCESS);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match runtime.block_on(daemon::run(config)) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error @ DaemonError::Stuck { .. }) => {
                tracing::error!(error = chain(&error), "the agent is to be begun again");
                Ok(ExitCode::from(AGAIN))
            }
            Err(error) => Err(error.into()),
        }
    }
}
