//! One step back: the certificate before the stored one takes its place again, until the next renewal that is planned or asked
//! for. Nothing is issued; what is delivered goes the way of every delivery, and is proven as any other.

use jiff::Timestamp;
use portcullis_policy::Reason;
use portcullis_policy::revocation::Revocations;
use portcullis_policy::rotation::Cause;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Facts;
use portcullis_policy::rotation::Fit;
use portcullis_policy::rotation::Flight;
use portcullis_policy::schedule;

use super::advice::Advice;
use super::entry::Credential;
use super::entry::Entry;
use super::rotor::RenewReply;
use super::rotor::Rotor;
use crate::audit::Event;
use crate::audit::Kind;
use crate::command::CommandError;
use crate::errors::chain;
use crate::leaf;

/// Why there is no way back. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWayBack {
    #[error("certificate `{name}` cannot go back to serial {serial}: it ended at {at}")]
    Ended { name: String, serial: String, at: Timestamp },
    #[error(
        "certificate `{name}` cannot go back to serial {serial}: it ends at {at}, so soon that it would be replaced at once"
    )]
    EndsSoon { name: String, serial: String, at: Timestamp },
    #[error("certificate `{name}` has nothing to go back to; `portcullis renew {name}` makes a new one")]
    Nothing { name: String },
    #[error(
        "certificate `{name}` cannot go back to serial {serial}: it is not what the configuration asks for or peers accept any more, and would be replaced at once"
    )]
    OtherNames { name: String, serial: String },
    #[error("certificate `{name}` cannot go back to serial {serial}: a proxy refused it")]
    Refused { name: String, serial: String },
    #[error("certificate `{name}` cannot go back to serial {serial}: it is revoked ({})", reason.code())]
    Revoked { name: String, serial: String, reason: Reason },
    #[error(
        "certificate `{name}` is being renewed ({}); go back when that is done, or when it has failed after `checked`",
        state
    )]
    UnderWay { name: String, state: &'static str },
}

impl Entry {
    /// Keeps what was stored before as something to go back to, now that what is stored is seen in use.
    pub(super) fn proven(&mut self, cause: Cause) {
        if let Some(stored) = &mut self.stored {
            stored.proven = true;
        }
        let before = self.last_good.take();
        if cause.issues() {
            self.back = before.or_else(|| self.back.take());
        }
        self.refused = None;
    }

    /// What there was before the stored one: while that is being delivered, what was stored until then.
    fn before(&self) -> Option<&Credential> {
        self.last_good.as_ref().or(self.back.as_ref())
    }
}

impl Rotor {
    /// Takes the step for an operator if there is a way back, and answers if there is none; otherwise the delivery answers.
    pub(super) async fn roll_back(&mut self, reply: RenewReply) {
        let old = self.entry.serial().map(str::to_owned);
        match self.step_back(Event::new(Kind::RolledBack, self.name()).by("operator")).await {
            Ok(()) => self.expect(reply, old),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Takes the step, told of by `event`, if there is a way back. Otherwise everything is as it was.
    pub(super) async fn step_back(&mut self, event: Event) -> Result<(), CommandError> {
        let revoked = (self.context.revoked)();
        self.step_back_unless(&revoked, event).await
    }

    /// The same where this is revoked.
    pub(super) async fn step_back_unless(&mut self, revoked: &Revocations, event: Event) -> Result<(), CommandError> {
        let entry = self.one_step_back(revoked).map_err(|error| CommandError::Invalid { what: error.to_string() })?;
        let event = event.change(self.entry.serial(), entry.serial());
        let failed = |error| CommandError::Failed { step: "rollback".to_owned(), cause: chain(&error) };
        self.commit(entry, &[event]).await.map_err(failed)?;
        let superseded = CommandError::Failed {
            step: "renewing".to_owned(),
            cause: "the certificate before was put in its place".to_owned(),
        };
        self.answer(Err(superseded));
        tracing::warn!(certificate = self.name(), serial = self.entry.serial(), "goes back to the certificate before");
        self.facts = Facts::default();
        self.told = None;
        Ok(())
    }

    /// The record with the step taken.
    fn one_step_back(&self, revoked: &Revocations) -> Result<Entry, NoWayBack> {
        let name = self.name().to_owned();
        let mut entry = self.entry.clone();
        if let Some(flight) = entry.flight.filter(|flight| flight.edge <= Edge::Check) {
            return Err(NoWayBack::UnderWay { name, state: flight.edge.from().as_str() });
        }
        let (Some(mut back), Some(stored)) = (entry.before().cloned(), entry.stored.take()) else {
            return Err(NoWayBack::Nothing { name });
        };
        let (serial, validity, now) = (back.leaf.serial.clone(), back.validity(), leaf::now());
        let at = leaf::timestamp(validity.not_after);
        if validity.has_ended(now) {
            return Err(NoWayBack::Ended { name, serial, at });
        }
        let last = schedule::emergency_at(validity);
        if now >= last {
            return Err(NoWayBack::EndsSoon { name, serial, at });
        }
        if entry.refused.as_ref() == Some(&serial) {
            return Err(NoWayBack::Refused { name, serial });
        }
        // What is above it may have ended since.
        if self.fit_of(&back) != Fit::Fits || !self.is_acceptable(&back, now) {
            return Err(NoWayBack::OtherNames { name, serial });
        }
        let der = leaf::chain(&back.chain_pem).ok();
        let parsed = der.and_then(|chain| portcullis_policy::Leaf::from_der(chain.first()?).ok());
        match parsed.map(|leaf| revoked.judge(&leaf)) {
            Some(None) => {}
            Some(Some(reason)) => return Err(NoWayBack::Revoked { name, serial, reason }),
            // Nobody can tell whether it is revoked.
            None => return Err(NoWayBack::OtherNames { name, serial }),
        }
        // Its own schedule is over. What it gives way to is the renewal that was planned anyway.
        back.renew_at = if stored.renew_at > now { stored.renew_at.min(last) } else { last };
        back.advice = Some(Advice::NEVER);
        entry.previous = Some(stored.leaf.clone());
        entry.left = Some(stored.leaf.serial.clone());
        // In use again if a proxy refuses this one.
        entry.last_good = Some(stored).filter(|stored| stored.proven);
        entry.stored = Some(back);
        entry.back = None;
        entry.flight = Some(Flight::begin(Cause::RolledBack));
        (entry.order, entry.answer) = (None, None);
        (entry.failures, entry.retry_at, entry.last_error) = (0, None, None);
        entry.issued_to_served_ms = None;
        Ok(entry)
    }
}
