//! The steps: making a value, having it set and tested, putting it in the place of the one before, taking that away.

use std::sync::Arc;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::credential;
use portcullis_policy::credential::Flight;

use super::entry::Entry;
use super::entry::Kept;
use super::entry::KeptLease;
use super::entry::Old;
use super::error::CredentialError;
use super::keeper::Keeper;
use super::made;
use super::made::MakeError;
use super::source::Obtained;
use super::source::Settings;
use super::source::Source;
use super::target::Setting;
use super::target::Target;
use super::target::TargetError;
use crate::audit;
use crate::audit::Event;
use crate::config::CredentialSource;
use crate::errors::chain;
use crate::keys;
use crate::keys::KeyError;
use crate::leaf;
use crate::rotation::failpoint;
use crate::secret::Secret;

/// What ends sooner is over before everybody has it.
const SHORTEST: i64 = 2;
/// For what has no end and is replaced when its source has another one.
const NEVER: UnixTime = UnixTime(i64::MAX / 4);

impl Keeper {
    /// Makes the value, where the agent makes it, so that it is written down before anybody else learns of it.
    pub(super) async fn make(&mut self, entry: &mut Entry, now: UnixTime) -> Result<(), CredentialError> {
        self.open_files()?;
        if let Some(generations) = self.generations.clone() {
            let looked = tokio::task::spawn_blocking(move || generations.preflight()).await;
            looked.expect("files do not panic").map_err(CredentialError::Files)?;
        }
        let failed = |error: KeyError| CredentialError::Make(MakeError::Key(error));
        let (secret, account) = match &self.config.source {
            CredentialSource::Password { length } => (made::password(*length).map_err(failed)?, self.account(entry)),
            CredentialSource::SigningKey(algorithm) => (made::signing_key(*algorithm).map_err(failed)?, None),
            CredentialSource::SessionTicketKeys => (made::ticket_key().map_err(failed)?, None),
            // Nothing is known before somebody else was asked.
            CredentialSource::External(_) | CredentialSource::Token { .. } => return Ok(()),
        };
        let not_after = self.config.target.is_some().then(|| UnixTime(now.0.saturating_add(self.config.lifetime)));
        let kept = Kept {
            id: made::id().map_err(failed)?,
            account,
            secret,
            lease: None,
            since: now,
            not_after,
            rotate_at: self.rotate_at(now, self.config.lifetime),
            extend_at: None,
            extended_at: None,
            signed_with: None,
            made_of: self.config.source.label(),
            set_on: None,
        };
        self.fits(&kept)?;
        entry.next = Some(kept);
        Ok(())
    }

    /// Of two accounts, the one that nobody uses now.
    fn account(&self, entry: &Entry) -> Option<String> {
        let current = entry.current.as_ref().and_then(|current| current.account.as_ref());
        let accounts = &self.config.accounts;
        accounts.iter().find(|account| Some(*account) != current).or_else(|| accounts.first()).cloned()
    }

    fn rotate_at(&self, now: UnixTime, lifetime: i64) -> UnixTime {
        credential::rotate_at(now, lifetime, self.config.rotate_after, keys::draw().unwrap_or_default())
    }

    /// Has the value set where it is checked, or asks for one.
    pub(super) async fn obtain(
        &mut self,
        entry: &mut Entry,
        flight: Flight,
        now: UnixTime,
        events: &mut Vec<Event>,
    ) -> Result<(), CredentialError> {
        match &self.config.source {
            CredentialSource::External(_) => {
                let obtained = self.source()?.obtain().await.map_err(CredentialError::Source)?;
                let kept = self.keep(obtained, leaf::now())?;
                // What was not good enough is not left lying about.
                if let Some(kept) = entry.next.take().filter(|kept| kept.lease.is_some()) {
                    entry.old.push(Old { kept, until: Some(now) });
                }
                if is_the_same(entry.current.as_ref(), &kept) && flight.cause != credential::Cause::NotPublished {
                    // The source has no other one: what is in use goes on, for longer.
                    entry.current = Some(Kept { signed_with: None, ..kept });
                    entry.flight = None;
                    return Ok(());
                }
                entry.next = Some(kept);
            }
            CredentialSource::Token { signed_by, claims } => {
                let no_key = || CredentialError::NoSigningKey { signed_by: signed_by.clone() };
                let signer = self.signer().await.ok_or_else(no_key)?;
                let until = now.0.saturating_add(self.config.lifetime);
                let (id, secret) = made::token(claims, (now.0, until), (&signer.kid, &signer.key, signer.algorithm))
                    .map_err(CredentialError::Make)?;
                entry.next = Some(Kept {
                    id,
                    account: None,
                    secret,
                    lease: None,
                    since: now,
                    not_after: Some(UnixTime(until)),
                    rotate_at: self.rotate_at(now, self.config.lifetime),
                    extend_at: None,
                    extended_at: None,
                    signed_with: Some(signer.kid),
                    made_of: self.config.source.label(),
                    set_on: None,
                });
            }
            CredentialSource::Password { .. } => {
                let next = entry.next.as_mut().ok_or(CredentialError::Record { step: "obtain" })?;
                if self.set(next).await? {
                    next.set_on = self.config.target.as_ref().map(Target::label);
                    let event = Event::new(audit::Kind::CredentialSet, &self.config.name);
                    let id = next.id.clone();
                    events.push(self.told(event, flight).change(entry.id(), Some(&id)));
                }
            }
            CredentialSource::SigningKey(_) | CredentialSource::SessionTicketKeys => {}
        }
        Ok(())
    }

    /// False if there is nobody to set it on.
    async fn set(&self, kept: &Kept) -> Result<bool, CredentialError> {
        let (Some(target), Some(account)) = (&self.config.target, &kept.account) else { return Ok(false) };
        let known = self.entry.known(account);
        let setting = Setting {
            account,
            secret: &kept.secret,
            known: &known,
            until: kept.not_after.map(leaf::timestamp),
            owner: self.context.seal.owner(),
        };
        target.set(&setting).await.map_err(CredentialError::Target)?;
        Ok(true)
    }

    /// What a source gave, with its times. A plan never outlives what the configuration allows.
    fn keep(&self, obtained: Obtained, now: UnixTime) -> Result<Kept, CredentialError> {
        let Obtained { material, not_after, lease, id } = obtained;
        let end = not_after.map(|end| UnixTime(end.as_second()));
        if let Some(until) = not_after.filter(|until| until.as_second().saturating_sub(now.0) < SHORTEST) {
            return Err(CredentialError::EndsTooSoon { until });
        }
        let left = end.map(|end| end.0.saturating_sub(now.0));
        let renewable = lease.as_ref().is_some_and(|lease| lease.renewable);
        let (rotate_at, extend_at) = match (left, end) {
            (Some(_), Some(end)) if renewable => {
                (self.rotate_at(now, self.config.lifetime), Some(credential::extend_at(now, end)))
            }
            (Some(left), _) => (self.rotate_at(now, left.min(self.config.lifetime)), None),
            _ if self.changes_by_itself() => (NEVER, None),
            _ => (self.rotate_at(now, self.config.lifetime), None),
        };
        let lender = self.source.as_ref().and_then(|source| source.lender());
        let lease = lease.map(|lease| KeptLease {
            lent_by: lender.map(str::to_owned),
            id: lease.id,
            renewable: lease.renewable,
            login: lease.login,
            lasted: left.unwrap_or_default(),
        });
        Ok(Kept {
            id,
            account: material.account,
            secret: material.secret,
            lease,
            since: now,
            not_after: end,
            rotate_at,
            extend_at,
            extended_at: None,
            signed_with: None,
            made_of: self.config.source.label(),
            set_on: None,
        })
    }

    /// Whether another one comes when somebody else makes it, and not when it is asked for.
    fn changes_by_itself(&self) -> bool {
        matches!(&self.config.source, CredentialSource::External(settings) if matches!(**settings, Settings::OpenbaoKv(..)))
    }

    /// Uses the value as a consumer would, before any consumer has it.
    pub(super) async fn check(&mut self, now: UnixTime) -> Result<(), CredentialError> {
        let next = self.entry.next.as_ref().ok_or(CredentialError::Record { step: "check" })?;
        self.fits(next)?;
        if let Some(end) = next.not_after.filter(|end| end.0.saturating_sub(now.0) < SHORTEST) {
            return Err(CredentialError::EndsTooSoon { until: leaf::timestamp(end) });
        }
        if let (Some(target), Some(account)) = (&self.config.target, &next.account) {
            target.test(account, &next.secret).await.map_err(CredentialError::Target)?;
        }
        Ok(())
    }

    /// Makes it the current one.
    pub(super) fn switch(&self, entry: &mut Entry, now: UnixTime) {
        let Some(next) = entry.next.take() else { return };
        let Some(before) = entry.current.replace(next) else { return };
        entry.replaced = Some(before.id.clone());
        let is_in_its_place = entry.current.as_ref().is_some_and(|current| {
            current.account == before.account && (before.set_on.is_none() || current.set_on == before.set_on)
        });
        let is_gone = self.config.target.as_ref().is_some_and(|target| is_in_its_place && !target.keeps_two());
        let is_set = before.set_on.is_some() || self.config.target.is_some();
        let can_end = before.lease.is_some() || is_set || self.config.source.is_ring();
        if can_end && !is_gone {
            // The keys of a ring were everywhere before: their overlap begins now.
            let until = self.config.source.is_ring().then(|| self.overlap_until(now));
            entry.old.push(Old { kept: before, until });
        }
    }

    fn overlap_until(&self, now: UnixTime) -> UnixTime {
        UnixTime(now.0.saturating_add(self.config.overlap))
    }

    /// Everybody has it: the overlap of what it replaced begins.
    pub(super) fn proven(
        &self,
        entry: &mut Entry,
        flight: Flight,
        now: UnixTime,
        proof: String,
        events: &mut Vec<Event>,
    ) {
        let until = self.overlap_until(now);
        for old in &mut entry.old {
            old.until.get_or_insert(until);
        }
        if flight.cause.makes() {
            entry.rotations += 1;
            entry.proven_at = Some(now);
        }
        // The key of a ring is proven before it takes the place of the one in use.
        let old = if entry.next.is_some() { entry.id() } else { entry.replaced.as_deref() };
        let new = entry.next.as_ref().or(entry.current.as_ref()).map(|kept| kept.id.as_str());
        let event = Event::new(audit::Kind::Served, &self.config.name);
        events.push(self.told(event, flight).change(old, new).proven(proof));
    }

    fn told(&self, event: Event, flight: Flight) -> Event {
        let event = event.because(flight.cause.as_str()).of(&self.config.consumers);
        match &self.entry.asked_by {
            Some(who) => event.by(who.clone()),
            None => event,
        }
    }

    /// A proxy refused it: consumers use the one before, and so does the record. Another one is made for the other place.
    pub(super) fn take_back(&self, entry: &mut Entry) {
        if self.config.source.is_ring() {
            entry.next = None;
        } else if entry.old.last().is_some_and(|old| old.until.is_none())
            && let Some(before) = entry.old.pop()
            && let Some(refused) = entry.current.replace(before.kept)
        {
            entry.old.push(Old { kept: refused, until: Some(leaf::now()) });
        }
    }

    /// Who gives it.
    fn source(&self) -> Result<Arc<Source>, CredentialError> {
        self.source.clone().ok_or(CredentialError::Record { step: "obtain" })
    }

    /// Has the end of a lease put off.
    pub(super) async fn extend(&mut self, now: UnixTime) -> Result<(), CredentialError> {
        let source = self.source()?;
        let mut entry = self.entry.clone();
        let record = || CredentialError::Record { step: "extend" };
        let current = entry.current.as_mut().ok_or_else(record)?;
        let lease = current.lease.clone().ok_or_else(record)?;
        let end = source.renew(&lease.lease()).await.map_err(CredentialError::Source)?;
        let end = end.map(|end| UnixTime(end.as_second()));
        let before = current.not_after.unwrap_or(now);
        match end {
            Some(end) if credential::is_extended(now, before, end, lease.lasted) => {
                current.not_after = Some(end);
                current.extend_at = Some(credential::extend_at(now, end));
                current.extended_at = Some(now);
            }
            // It gets less and less: another one while this one has some.
            other => {
                current.not_after = other.or(current.not_after);
                (current.extend_at, current.rotate_at) = (None, now);
            }
        }
        let is_failing = entry.last_error.take().is_some();
        entry.failures = 0;
        tracing::debug!(credential = self.config.name, is_failing, "the lease was extended");
        self.commit(entry, &[]).await
    }

    /// A lease that cannot be extended is replaced while a part of it is left.
    pub(super) fn give_up_lease(&self, entry: &mut Entry, now: UnixTime, is_gone: bool) {
        let Some(current) = &mut entry.current else { return };
        let (Some(lease), Some(end)) = (&current.lease, current.not_after) else { return };
        if is_gone {
            // It lets nobody in any more, whatever was said of its end: no window is waited for.
            current.not_after = Some(UnixTime(now.0.saturating_sub(1)));
        }
        if is_gone || end.0.saturating_sub(now.0) < lease.lasted / 3 {
            (current.extend_at, current.rotate_at) = (None, now);
        }
    }

    /// Takes away what was replaced and whose overlap is over; all of it, if the next value needs its place.
    pub(super) async fn retire(&mut self, now: UnixTime) -> Result<(), CredentialError> {
        failpoint::hit("credential-retire");
        let needs_place = self.entry.flight.is_some();
        let (due, stay): (Vec<Old>, Vec<Old>) =
            self.entry.old.iter().cloned().partition(|old| needs_place || old.until.is_some_and(|until| until <= now));
        let mut events = Vec::new();
        for old in &due {
            let event = match self.out_of_reach(&old.kept) {
                Some(why) => {
                    tracing::warn!(credential = self.config.name, id = old.kept.id, "left behind, {why}");
                    Event::new(audit::Kind::LeftBehind, &self.config.name).because(why)
                }
                None => {
                    self.end(&old.kept).await?;
                    Event::new(audit::Kind::Retired, &self.config.name)
                }
            };
            events.push(event.of(&self.config.consumers).change(Some(&old.kept.id), self.entry.id()));
        }
        failpoint::hit("credential-retire-done");
        let mut entry = self.entry.clone();
        entry.old = stay;
        (entry.retry_at, entry.failures, entry.last_error) = (None, 0, None);
        if self.config.source.is_ring() {
            // Before it is said: what is retired is nowhere any more.
            self.place(&entry).await?;
        }
        self.commit(entry, &events).await
    }

    /// Why a value cannot be taken away: the configuration knows nothing any more of where it is good.
    pub(super) fn out_of_reach(&self, kept: &Kept) -> Option<String> {
        let until = kept.not_after.map_or_else(String::new, |end| format!(" until {}", leaf::timestamp(end)));
        if let Some(lender) = kept.lease.as_ref().and_then(|lease| lease.lent_by.as_ref()) {
            let now = self.source.as_ref().and_then(|source| source.lender());
            return (now != Some(lender)).then(|| format!("lent by {lender}, which is not asked any more{until}"));
        }
        let there = kept.set_on.as_ref()?;
        let now = self.config.target.as_ref().map(Target::label);
        (now.as_ref() != Some(there)).then(|| format!("set on {there}, which is not its target any more{until}"))
    }

    async fn end(&self, kept: &Kept) -> Result<(), CredentialError> {
        if let (CredentialSource::External(_), Some(lease)) = (&self.config.source, &kept.lease) {
            return self.source()?.revoke(&lease.lease()).await.map_err(CredentialError::Source);
        }
        let (Some(target), Some(account)) = (&self.config.target, &kept.account) else { return Ok(()) };
        let current = self.entry.current.as_ref().filter(|current| current.is_of(account));
        let still: Option<&Secret> = current.map(|current| &current.secret);
        let owner = self.context.seal.owner();
        match target.retire(account, &kept.secret, still, owner).await {
            // Nobody logs in as an account that is not there.
            Err(TargetError::NoAccount { .. }) if still.is_none() => Ok(()),
            Err(error @ TargetError::Forgotten { .. }) => {
                tracing::warn!(credential = self.config.name, error = chain(&error), "it is set again");
                if let Some(current) = current {
                    self.set(current).await?;
                }
                target.retire(account, &kept.secret, still, owner).await.map_err(CredentialError::Target)
            }
            ended => ended.map_err(CredentialError::Target),
        }
    }

    /// Nobody wants it any more.
    pub(super) async fn give_back(&mut self, now: UnixTime) -> Result<(), CredentialError> {
        let mut entry = self.entry.clone();
        if let Some(current) = entry.current.take() {
            entry.old.push(Old { kept: current, until: Some(now) });
        }
        let event = Event::new(audit::Kind::CredentialIdle, &self.config.name).of(&self.config.consumers);
        let event = event.change(self.entry.id(), None);
        self.commit(entry, &[event]).await?;
        self.context.agent.publisher.remove(&self.config.name);
        tracing::info!(credential = self.config.name, at = %Timestamp::now(), "nobody used it; it is given back");
        Ok(())
    }
}

/// Whether a source gave once more what is in use.
fn is_the_same(current: Option<&Kept>, kept: &Kept) -> bool {
    kept.lease.is_none()
        && current.is_some_and(|current| {
            (&current.id, &current.account, &current.secret, &current.made_of)
                == (&kept.id, &kept.account, &kept.secret, &kept.made_of)
        })
}
