//! What the issuer says of when to renew (RFC 9773): asked now and then, kept with the certificate.

use portcullis_policy::UnixTime;
use portcullis_policy::rotation::Edge;
use portcullis_policy::schedule;
use serde::Deserialize;
use serde::Serialize;

use super::entry::Credential;
use super::plan;
use super::rotor::Rotor;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config::Certificate;
use crate::errors::chain;
use crate::issuer::acme::Suggested;
use crate::keys;
use crate::leaf;

/// After an answer that was none, in seconds.
const ASK_AGAIN: i64 = 3_600;

/// A new certificate is kept for this part of its lifetime at least.
const SOONEST_PART: i64 = 20;

/// What an issuer said of the stored certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Advice {
    /// The window that it named, as its two ends; none if it names none.
    window: Option<(UnixTime, UnixTime)>,
    /// When to ask again.
    ask_at: UnixTime,
    /// Whether the window was over when it was named, as an issuer does that is about to revoke (RFC 9773 §4.2), or was moved up
    /// so that none of ours comes in time: then no window of ours is waited for.
    #[serde(default)]
    is_urgent: bool,
}

impl Advice {
    /// Of a certificate that was gone back to: its issuer has not heard of that.
    pub(super) const NEVER: Self = Self { window: None, ask_at: UnixTime(i64::MAX), is_urgent: false };

    /// A window that was named before.
    #[cfg(test)]
    pub(super) const fn of_window(start: UnixTime, end: UnixTime) -> Self {
        Self { window: Some((start, end)), ask_at: end, is_urgent: false }
    }

    /// Whether the certificate is to be renewed by the word of its issuer alone.
    pub(super) const fn is_urgent(&self) -> bool {
        self.is_urgent
    }
}

impl Rotor {
    /// Whether the issuer of the stored certificate is to be asked.
    pub(super) fn is_advice_due(&self, now: UnixTime) -> bool {
        // A delivery that hangs keeps nobody from hearing that the certificate has to go.
        let rests =
            self.entry.flight.is_none_or(|flight| flight.edge > Edge::Check) || self.closed_until(now).is_some();
        // One that the fallback issued is to be replaced by the issuer's, whatever the fallback thinks of it.
        let own = |stored: &&Credential| rests && stored.issuer == self.config.issuer;
        let Some(stored) = self.entry.stored.as_ref().filter(own) else { return false };
        if stored.advice == Some(Advice::NEVER) {
            return false;
        }
        let issuer = self.context.issuers.named(&stored.issuer);
        !self.is_paused()
            && issuer.is_ok_and(|issuer| issuer.gives_advice())
            && (!self.is_advised || stored.advice.as_ref().is_none_or(|advice| advice.ask_at <= now))
    }

    /// Asks, and chooses a time in the window, once for each window: what else is said stays within the lifetime's own
    /// schedule, which an answer can bring forward and never put off past the emergency.
    pub(super) async fn take_advice(&mut self) {
        let now = leaf::now();
        self.is_advised = true;
        let Some(stored) = &self.entry.stored else { return };
        let Ok(issuer) = self.context.issuers.named(&stored.issuer) else { return };
        let mut stored = stored.clone();
        let mut events = Vec::new();
        match issuer.advice(&stored.chain_pem).await {
            Ok(Some(suggested)) => {
                let window = Some((suggested.start, suggested.end));
                let mut is_urgent = stored.advice.as_ref().is_some_and(Advice::is_urgent);
                if stored.advice.as_ref().and_then(|advice| advice.window) != window {
                    let draws = [keys::draw().unwrap_or_default(), keys::draw().unwrap_or_default()];
                    (stored.renew_at, is_urgent) = heed(&self.config, &stored, &suggested, now, draws);
                    let cause = format!("{} asks for a renewal at {}", issuer.name(), leaf::timestamp(stored.renew_at));
                    tracing::info!(certificate = self.config.name, cause, "renewal is planned anew");
                    events.push(
                        Event::new(Kind::RenewalPlanned, &self.config.name)
                            .because(cause)
                            .change(self.entry.serial(), None),
                    );
                }
                stored.advice = Some(Advice { window, ask_at: suggested.ask_again, is_urgent });
            }
            Ok(None) => {
                stored.advice = Some(Advice { window: None, ask_at: UnixTime(now.0 + ASK_AGAIN), is_urgent: false });
            }
            Err(error) => {
                // The lifetime says when, then.
                tracing::warn!(certificate = self.config.name, error = chain(&error), "no renewal information");
                let before = stored.advice.unwrap_or(Advice::NEVER);
                stored.advice = Some(Advice { ask_at: UnixTime(now.0 + ASK_AGAIN), ..before });
            }
        }
        let mut entry = self.entry.clone();
        entry.stored = Some(stored.clone());
        if let Err(error) = self.commit(entry, &events).await {
            // In force all the same, or the issuer would be asked again and again; the next commit has it.
            tracing::error!(
                certificate = self.config.name,
                error = chain(&error),
                "renewal information is not kept yet"
            );
            if let Some(own) = self.entry.stored.as_mut().filter(|own| own.leaf == stored.leaf) {
                *own = stored;
            }
        }
    }
}

/// When to renew by a window that was not heard of before, and whether that waits for no window of ours.
pub(super) fn heed(
    config: &Certificate,
    stored: &Credential,
    suggested: &Suggested,
    now: UnixTime,
    draws: [u32; 2],
) -> (UnixTime, bool) {
    let validity = stored.validity();
    let at = schedule::within(suggested.start, suggested.end, validity, draws[0]);
    let Some(before) = &stored.advice else {
        // The first that is heard of a new certificate: an issuer that wants each one replaced at once is wrong about something,
        // and would be asked for another without end.
        let soonest = UnixTime(stored.issued_ms / 1_000 + validity.lifetime() / SOONEST_PART);
        let at = at.max(soonest).min(schedule::emergency_at(validity));
        return (plan::in_window(config, at, validity, draws[1]), false);
    };
    if suggested.end <= now {
        return (at, true);
    }
    let planned = plan::in_window(config, at, validity, draws[1]);
    let due = planned.max(now);
    let begins = config.calendar.closed_until(due).unwrap_or(due);
    // Who moves a window up has a reason that does not wait for ours.
    let is_moved_up = before.window.is_some_and(|(_, end)| suggested.end < end);
    if is_moved_up && begins > suggested.end { (at, true) } else { (planned, false) }
}
