//! The way from a subcommand to the running agent.

use std::error::Error;

use super::Global;
use crate::config::Config;
use crate::control_client::ControlClient;
use crate::control_client::ControlError;

/// Asks the agent that the configuration belongs to.
///
/// # Errors
///
/// Those of the configuration and of the question.
pub(super) fn ask<T>(
    global: &Global,
    question: impl AsyncFnOnce(ControlClient) -> Result<T, ControlError>,
) -> Result<T, Box<dyn Error + Send + Sync>> {
    let config = Config::load(&global.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(question(ControlClient::new(config.listen.control)))?)
}
