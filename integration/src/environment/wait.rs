//! Waiting for something that another process does: asked again and again, up to a deadline.

use std::fmt::Display;
use std::time::Duration;
use std::time::Instant;

use super::EnvironmentError;

/// Between two looks: short beside what is waited for, long beside what a look costs.
const PAUSE: Duration = Duration::from_millis(10);

/// For one look: one that hangs, as on a program that begins to listen just then, is not to use up the time of all others.
const LOOK: Duration = Duration::from_secs(10);

/// Asks `probe` until it answers, at most for `within`. Its error says what is there instead, for the report.
///
/// # Errors
///
/// [`EnvironmentError::TimedOut`] with the probe's last error.
pub async fn until<T, E: Display>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, EnvironmentError> {
    let end = Instant::now() + within;
    loop {
        let last = match tokio::time::timeout(within.min(LOOK), probe()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= end {
            return Err(EnvironmentError::TimedOut { what: what.to_owned(), within, last });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
