//! The way to a new certificate: whom to ask, what is written down before, and what is made of the answer.

use std::sync::Arc;
use std::sync::OnceLock;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::rotation::Cause;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Facts;
use portcullis_policy::rotation::Fit;
use portcullis_policy::rotation::Flight;
use portcullis_policy::schedule;
use portcullis_policy::schedule::Validity;

use super::check;
use super::entry::Answer;
use super::entry::Credential;
use super::entry::Drawn;
use super::entry::Entry;
use super::entry::Under;
use super::plan;
use super::rotor::Rotor;
use super::rotor::StepError;
use crate::audit::Event;
use crate::audit::Kind;
use crate::ca::Authority;
use crate::errors::chain;
use crate::issuer::BUILT_IN;
use crate::issuer::IssueError;
use crate::issuer::Issuer;
use crate::issuer::Order;
use crate::issuer::Progress;
use crate::issuer::Roots;
use crate::keys;
use crate::keys::KeyError;
use crate::leaf;
use crate::leaf::Leaf;
use crate::names::Names;

impl Rotor {
    /// Whether the stored certificate is what the configuration asks for.
    pub(super) fn fit(&self) -> Fit {
        self.entry.stored.as_ref().map_or(Fit::Fits, |stored| self.fit_of(stored))
    }

    /// Looks again whether the stored certificate is what the configuration asks for.
    pub(super) fn judge_again(&mut self) {
        self.facts.fit = self.fit();
    }

    /// Whether a certificate is what the configuration asks for.
    pub(super) fn fit_of(&self, credential: &Credential) -> Fit {
        let Credential { chain_pem, key, issuer, leaf, .. } = credential;
        let fallback = self.config.fallback.as_ref().map(|fallback| &fallback.issuer);
        if *issuer != self.config.issuer && Some(issuer) != fallback {
            return Fit::OtherIssuer;
        }
        match self.context.issuers.named(issuer) {
            Ok(issuer) => match check::fit(chain_pem, key, &self.names_of(credential), &issuer.roots(), leaf) {
                Fit::Fits if issuer.name() == BUILT_IN && !self.has_roots_of_now(credential) => Fit::OtherRoots,
                fit => fit,
            },
            Err(_) => Fit::OtherIssuer,
        }
    }

    /// Whether a certificate of the built-in CA is under the root that signs now, and its files hold the roots of now.
    fn has_roots_of_now(&self, credential: &Credential) -> bool {
        let Credential { chain_pem, key, leaf, under, .. } = credential;
        let authorities = &self.context.authorities;
        let is_under = match under {
            Some(under) => under.root == authorities.issuing().leaf().sha256,
            None => {
                let fit = check::fit(chain_pem, key, &self.names_of(credential), &authorities.signing(), leaf);
                fit == Fit::Fits
            }
        };
        is_under && (self.config.files.is_none() || self.ca_pem(credential) == authorities.pem())
    }

    /// Whether a peer would accept a certificate now.
    pub(super) fn is_acceptable(&self, credential: &Credential, now: UnixTime) -> bool {
        let Credential { chain_pem, key, issuer, .. } = credential;
        let issuer = self.context.issuers.named(issuer);
        let names = self.names_of(credential);
        issuer.is_ok_and(|issuer| check::as_peer(chain_pem, key, &names, &issuer.roots(), now).is_ok())
    }

    /// Whom to ask now.
    fn issuer_now(&self, now: UnixTime) -> &str {
        let validity = self.entry.stored.as_ref().map(Credential::validity);
        plan::issuer(&self.config, validity, self.entry.unissued, now)
    }

    /// Who is asked by what comes next, if anybody is.
    pub(super) fn asks(&self, now: UnixTime) -> &str {
        self.entry.order.as_ref().map_or_else(|| self.issuer_now(now), Order::issuer)
    }

    /// Chooses when to renew a certificate.
    pub(super) fn plan(&self, validity: Validity, issuer: &str, drawn: Drawn) -> UnixTime {
        plan::renewal(&self.config, validity, issuer, drawn.at, drawn.draws)
    }

    /// Whether the order under way is given up for one at the fallback. One at the fallback itself is gone on with, whatever
    /// the turn: it may be about to be answered.
    pub(super) fn gives_up_order(&self, now: UnixTime) -> bool {
        let is_of_issuer = self.entry.order.as_ref().is_some_and(|order| order.issuer() == self.config.issuer);
        is_of_issuer && self.issuer_now(now) != self.config.issuer
    }

    /// Makes the order that is written down before anybody is asked.
    pub(super) fn journal(&self, now: UnixTime) -> Result<Order, StepError> {
        let name = self.issuer_now(now);
        if name != self.config.issuer {
            tracing::warn!(
                certificate = self.config.name,
                issuer = self.config.issuer,
                fallback = name,
                "the fallback is asked"
            );
        }
        let issuer = self.context.issuers.named(name).map_err(|error| failed(name, error))?;
        issuer.order(self.names_to_order(name), self.config.lifetime, now).map_err(|error| failed(name, error))
    }

    /// Takes the next step of the order, and writes into `entry` how far it led.
    pub(super) async fn obtain(
        &self,
        entry: &mut Entry,
        flight: Flight,
        events: &mut Vec<Event>,
    ) -> Result<(), StepError> {
        let order = self.entry.order.as_ref().ok_or_else(|| self.lacks(Edge::Obtain))?;
        let name = order.issuer();
        let replaced = self.entry.stored.as_ref().filter(|stored| stored.issuer == name);
        let replaced = replaced.map(|stored| stored.chain_pem.as_str());
        let issuer = self.context.issuers.named(name).map_err(|error| failed(name, error))?;
        match issuer.advance(order, replaced).await.map_err(|error| failed(name, error))? {
            Progress::Journal(order) => {
                entry.order = Some(order);
                entry.flight = Some(flight);
            }
            Progress::Issued(chain_pem) => {
                let leaf = first_leaf(&chain_pem).ok_or_else(|| StepError::Answer { issuer: name.to_owned() })?;
                // It would be ordered anew at once, again and again.
                let (validity, now) = (leaf.validity, leaf::now());
                if !validity.is_ahead(now) && now >= schedule::emergency_at(validity) {
                    let until = leaf::timestamp(validity.not_after);
                    return Err(StepError::EndsTooSoon { issuer: name.to_owned(), until });
                }
                entry.flight = entry.flight.map(|flight| Flight { obtained: Some(leaf.validity), ..flight });
                events.push(
                    Event::new(Kind::CertificateIssued, &self.config.name)
                        .by(if flight.cause == Cause::Requested { "operator" } else { "schedule" })
                        .because(flight.cause.as_str())
                        .change(self.entry.serial(), Some(&leaf.serial)),
                );
                entry.answer = Some(Answer { chain_pem, issued_ms: Timestamp::now().as_millisecond() });
            }
        }
        Ok(())
    }

    /// Looks at the answer as a peer would; what passes is the stored certificate from here on.
    pub(super) fn check(&mut self, entry: &mut Entry, now: UnixTime, events: &mut Vec<Event>) -> Result<(), StepError> {
        let order = entry.order.take().ok_or_else(|| self.lacks(Edge::Check))?;
        let answer = entry.answer.take().ok_or_else(|| self.lacks(Edge::Check))?;
        let name = order.issuer();
        let issuer = self.context.issuers.named(name).map_err(|error| failed(name, error))?;
        let key = order.key().ok_or_else(|| self.lacks(Edge::Check))?;
        let leaf =
            check::as_peer(&answer.chain_pem, key, order.names(), &issuer.roots(), now).map_err(StepError::Check)?;
        let leads_until = self.leads_until(&answer.chain_pem, &leaf, order.names(), &issuer, now)?;
        let drawn = draw(now).map_err(StepError::Key)?;
        let Answer { chain_pem, issued_ms } = answer;
        let under = if name == BUILT_IN { self.under(&chain_pem, &order, now) } else { None };
        let (key, issuer) = (key.clone(), name.to_owned());
        let without = self.left_out(entry, order.names());
        events.extend(self.names_back(entry.stored.as_ref(), &without));
        entry.whole_at = (!without.is_empty()).then(|| self.whole_at(now));
        entry.dead.retain(|dead| without.contains(&dead.name));
        let mut new = Credential {
            chain_pem,
            key,
            proven: false,
            issuer,
            leaf,
            renew_at: now,
            drawn: Some(drawn),
            advice: None,
            issued_ms,
            without,
            under,
            leads_until,
            above: OnceLock::new(),
        };
        new.renew_at = self.plan(new.validity(), name, drawn);
        self.facts = Facts::default();
        // One that was refused, or never seen in use, is nothing to go back to.
        let old = entry.stored.replace(new).filter(|_| !self.entry.is_refused());
        entry.previous = old.as_ref().map(|old| old.leaf.clone()).or_else(|| entry.previous.take());
        entry.last_good = old.filter(|old| old.proven).or_else(|| entry.last_good.take());
        Ok(())
    }

    /// Until when its chain leads to a root, if that is before its own end. One that would be ordered anew at once is refused.
    fn leads_until(
        &self,
        chain_pem: &str,
        leaf: &Leaf,
        names: &Names,
        issuer: &Issuer,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, StepError> {
        let Some(end) = check::leads_until(chain_pem, names, &issuer.roots(), leaf, now) else { return Ok(None) };
        let until = leaf::timestamp(end);
        if now >= schedule::emergency_at(Validity { not_after: end, ..leaf.validity }) {
            return Err(StepError::EndsTooSoon { issuer: issuer.name().to_owned(), until });
        }
        let own = leaf::timestamp(leaf.validity.not_after);
        tracing::warn!(certificate = self.config.name, %until, %own, "an authority of the chain ends before the certificate");
        Ok(Some(end))
    }

    /// Which root of the built-in CA signed a certificate, and which are trusted beside it.
    fn under(&self, chain_pem: &str, order: &Order, now: UnixTime) -> Option<Under> {
        let authorities = &self.context.authorities;
        let key = order.key()?;
        let signed = |root: &Arc<Authority>| {
            let only = Roots::these(vec![root.der().clone()]);
            check::as_peer(chain_pem, key, order.names(), &only, now).is_ok()
        };
        let root = authorities.trusted().into_iter().find(signed)?.leaf().sha256.clone();
        Some(Under { root, ca_pem: self.config.files.as_ref().map(|_| authorities.pem()) })
    }

    /// What files call the CA: its roots, or where there are too many the last of the chain. Of the built-in CA, those of when
    /// the certificate was issued: others come with another certificate, so that no generation changes under its readers.
    pub(super) fn ca_pem(&self, stored: &Credential) -> String {
        if stored.issuer == BUILT_IN {
            let then = stored.under.as_ref().and_then(|under| under.ca_pem.clone());
            // An older agent knew one root, and so does whoever had no files until now.
            let oldest = || self.context.authorities.trusted().first().map(|root| root.pem().to_owned());
            return then.or_else(oldest).unwrap_or_default();
        }
        let issuer = self.context.issuers.named(&stored.issuer);
        let named = issuer.ok().and_then(|issuer| issuer.roots().pem());
        named.unwrap_or_else(|| {
            let chain = leaf::chain(&stored.chain_pem).unwrap_or_default();
            chain.last().map(|der| leaf::pem("CERTIFICATE", der)).unwrap_or_default()
        })
    }

    fn lacks(&self, edge: Edge) -> StepError {
        StepError::Record { name: self.config.name.clone(), edge }
    }
}

/// Draws for a certificate that is taken into use `at`.
pub(super) fn draw(at: UnixTime) -> Result<Drawn, KeyError> {
    Ok(Drawn { draws: [keys::draw()?, keys::draw()?], at })
}

fn first_leaf(chain_pem: &str) -> Option<Leaf> {
    Leaf::from_der(leaf::chain(chain_pem).ok()?.first()?).ok()
}

fn failed(issuer: &str, source: IssueError) -> StepError {
    tracing::debug!(issuer, error = chain(&source), "not issued");
    StepError::Issue { issuer: issuer.to_owned(), source }
}
