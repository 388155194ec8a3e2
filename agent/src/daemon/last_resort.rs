//! The last that is tried when an issuer that used to issue does not any more, although everything towards it was made anew: the
//! agent ends, and its service manager begins it again. What went bad in this process is gone then; proxies keep what they have.
//!
//! An outage of the issuer ends one agent at most: the next one ends in its turn only after that issuer issued to it. No agent
//! ends so in its first day.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::rotation::Context;
use crate::status::Status;

/// How often this is looked at.
const EVERY: Duration = Duration::from_secs(60);
/// An agent that is younger does not end so.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);
/// A shorter outage is nothing to end for.
const OUTAGE: Duration = Duration::from_secs(6 * 60 * 60);
/// Failures of a certificate that nobody else issues either.
const FAILURES: u64 = 3;

/// Waits until nothing else is left to try, and names the issuer.
pub(super) async fn wait(context: &Context, status: watch::Receiver<Status>) -> String {
    let began = Instant::now();
    loop {
        tokio::time::sleep(EVERY).await;
        let now = Instant::now();
        let failing = context.issuers.failing(now);
        let status = status.borrow();
        if let Some((name, _)) = failing.into_iter().find(|(_, since)| is_due(began, *since, now, &status)) {
            return name;
        }
    }
}

fn is_due(began: Instant, failing: Instant, now: Instant, status: &Status) -> bool {
    let certificates = &status.certificates;
    now.duration_since(began) >= YOUNG
        && now.duration_since(failing) >= OUTAGE
        && certificates.iter().any(|certificate| certificate.failures >= FAILURES)
        // Nothing is under way.
        && certificates.iter().all(|certificate| certificate.waits_for.is_some())
}

#[cfg(test)]
mod tests;
