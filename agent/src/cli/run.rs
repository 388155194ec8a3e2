//! `portcullis run`.

use std::process::ExitCode;

use super::Global;
use super::Outcome;
use crate::config::Config;
use crate::daemon;

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
        runtime.block_on(daemon::run(config))?;
        Ok(ExitCode::SUCCESS)
    }
}
