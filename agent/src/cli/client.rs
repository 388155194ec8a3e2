//! The way from a subcommand to the running agent.

use std::error::Error;
use std::time::Duration;

use super::Global;
use crate::config::Config;
use crate::control_client::ControlClient;

/// Asks the agent that the configuration belongs to. Each request gets `patience`, if there is any.
///
/// # Errors
///
/// Those of the configuration and of the question.
pub(super) fn ask<T, E: Error + Send + Sync + 'static>(
    global: &Global,
    patience: Option<Duration>,
    question: impl AsyncFnOnce(ControlClient) -> Result<T, E>,
) -> Result<T, Box<dyn Error + Send + Sync>> {
    let config = Config::load(&global.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = ControlClient::new(config.listen.control);
    let client = match patience {
        Some(patience) => client.within(patience),
        None => client,
    };
    Ok(runtime.block_on(question(client))?)
}
