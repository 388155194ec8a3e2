//! Names that an issuer does not accept: one of several is not to end all of them.
//!
//! They are told of in any case. Where the configuration says so they are left out of the next order; then it is tried again and
//! again whether they are good by now, and what is in use goes on as it is meanwhile.

use portcullis_policy::UnixTime;
use portcullis_policy::rotation::Cause;
use serde::Deserialize;
use serde::Serialize;

use super::entry::Credential;
use super::entry::Entry;
use super::rotor::Rotor;
use super::rotor::StepError;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config::WhenNameFails;
use crate::errors::chain;
use crate::issuer::IssueError;
use crate::names::Names;
use crate::status::DeadNameStatus;

/// Between two tries whether all names are good again: this part of a lifetime, within bounds, in seconds.
const PART: i64 = 200;
const SOONEST: i64 = 60;
const LATEST: i64 = 6 * 3_600;

/// A name that an issuer did not accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeadName {
    pub(super) name: String,
    /// Who said so.
    pub(super) issuer: String,
    /// In whose words.
    pub(super) why: String,
}

impl Rotor {
    /// The names that this issuer is asked for now.
    pub(super) fn names_to_order(&self, issuer: &str) -> Names {
        self.without(self.entry.dead.iter().filter(|dead| dead.issuer == issuer).map(|dead| dead.name.as_str()))
    }

    /// The names that a certificate is to have: those of the configuration, less those that it was issued without.
    pub(super) fn names_of(&self, credential: &Credential) -> Names {
        self.without(credential.without.iter().map(String::as_str))
    }

    fn without<'a>(&self, left_out: impl Iterator<Item = &'a str>) -> Names {
        let left_out: Vec<&str> = left_out.collect();
        match self.config.when_a_name_fails {
            WhenNameFails::Drop => self.config.names.without(&left_out).unwrap_or_else(|| self.config.names.clone()),
            WhenNameFails::Wait => self.config.names.clone(),
        }
    }

    /// Takes note of the names that an issuer is not content with. Whether the next order is without them, and so another one.
    pub(super) fn bury(&self, entry: &mut Entry, error: &StepError, events: &mut Vec<Event>) -> bool {
        let (issuer, source) = match error {
            StepError::Issue { issuer, source } => (issuer, source),
            StepError::Rehearsal { issuer, source } => (issuer, &**source),
            _ => return false,
        };
        let own = self.config.names.labels();
        let mut found: Vec<DeadName> = names_at_fault(source)
            .into_iter()
            .filter(|(name, _)| own.contains(name))
            .map(|(name, why)| DeadName { name, issuer: issuer.clone(), why })
            .collect();
        if found.is_empty() {
            return false;
        }
        let asked_for = self.names_to_order(issuer);
        match self.config.when_a_name_fails {
            // What was left out before was not asked for.
            WhenNameFails::Drop => {
                let known = entry.dead.iter().filter(|dead| !found.iter().any(|one| one.name == dead.name));
                found.extend(known.cloned().collect::<Vec<_>>());
            }
            WhenNameFails::Wait => {}
        }
        let is_news = |dead: &&DeadName| !entry.dead.iter().any(|known| known.name == dead.name);
        for dead in found.iter().filter(is_news) {
            let what = format!("`{}` is not accepted by `{}`: {}", dead.name, dead.issuer, dead.why);
            events.push(Event::new(Kind::NameFailed, self.name()).because(what));
        }
        entry.dead = found;
        let left: Vec<&str> = entry.dead.iter().filter(|dead| dead.issuer == *issuer).map(|dead| &*dead.name).collect();
        let leaves_out = self.config.when_a_name_fails == WhenNameFails::Drop
            && self.config.names.without(&left).is_some_and(|names| names != asked_for);
        if leaves_out {
            tracing::error!(certificate = self.name(), left_out = left.join(", "), "ordered without names that failed");
        }
        leaves_out
    }

    /// Of a certificate that is taken into use: which of the names that failed it is without.
    pub(super) fn left_out(&self, entry: &Entry, ordered: &Names) -> Vec<String> {
        let ordered = ordered.labels();
        let dead = entry.dead.iter().map(|dead| &dead.name);
        dead.filter(|name| !ordered.contains(name)).cloned().collect()
    }

    /// When to try again whether all names are good, of a certificate that is without some.
    pub(super) fn whole_at(&self, now: UnixTime) -> UnixTime {
        let lifetime = self.entry.stored.as_ref().map_or(0, |stored| stored.validity().lifetime());
        UnixTime(now.0.saturating_add((lifetime / PART).clamp(SOONEST, LATEST)))
    }

    /// Whether it is time to try whether all names are good again.
    pub(super) fn is_whole_due(&self, now: UnixTime) -> bool {
        let rests = self.entry.flight.is_none() && !self.is_paused();
        let is_without =
            |stored: &Credential| !stored.without.is_empty() && self.config.when_a_name_fails == WhenNameFails::Drop;
        rests && self.entry.stored.as_ref().is_some_and(is_without) && self.entry.whole_at.is_none_or(|at| at <= now)
    }

    /// Looks whether all names are good again as far as one can without an order, and begins one for all of them if nothing says
    /// that they are not.
    pub(super) async fn try_whole(&mut self, now: UnixTime) {
        let issuer = self.context.issuers.named(&self.config.issuer);
        let looked = match issuer {
            Ok(issuer) => issuer.look_at_names(&self.config.names).await,
            Err(error) => Err(error),
        };
        let outcome = match looked {
            Ok(()) => self.begin(Cause::NamesBack).await.map_err(|(_, error)| error),
            Err(error) => {
                tracing::warn!(certificate = self.name(), error = chain(&error), "still without some of its names");
                let mut entry = self.entry.clone();
                entry.whole_at = Some(self.whole_at(now));
                self.commit(entry, &[]).await
            }
        };
        if let Err(error) = outcome {
            tracing::error!(certificate = self.name(), error = chain(&error), "it is tried again");
            self.pause();
        }
    }

    /// Before an order that is to have all names again: an operator asked, or it was not tried for long enough.
    pub(super) fn ask_for_all(&self, entry: &mut Entry, cause: Cause, now: UnixTime) {
        let is_time = entry.whole_at.is_none_or(|at| at <= now);
        if matches!(cause, Cause::Requested | Cause::NamesBack | Cause::NamesChanged) || is_time {
            entry.dead.clear();
            entry.whole_at = None;
        }
    }

    /// For the status.
    pub(super) fn dead_names(&self) -> Vec<DeadNameStatus> {
        let without = self.entry.stored.as_ref().map(|stored| stored.without.as_slice()).unwrap_or_default();
        let of = |name: &String| DeadNameStatus {
            name: name.clone(),
            why: self.entry.dead.iter().find(|dead| dead.name == *name).map(|dead| dead.why.clone()),
            left_out: without.contains(name) && self.config.when_a_name_fails == WhenNameFails::Drop,
        };
        let mut names: Vec<&String> = self.entry.dead.iter().map(|dead| &dead.name).collect();
        names.extend(without.iter().filter(|name| !self.entry.dead.iter().any(|dead| dead.name == **name)));
        names.into_iter().map(of).collect()
    }

    /// What is to be told when a certificate takes the place of one that was without names.
    pub(super) fn names_back(&self, old: Option<&Credential>, without: &[String]) -> Option<Event> {
        let back: Vec<&str> = old?.without.iter().filter(|name| !without.contains(name)).map(String::as_str).collect();
        let cause = format!("`{}` is in the certificate again", back.join("`, `"));
        (!back.is_empty()).then(|| Event::new(Kind::NameBack, self.name()).because(cause))
    }
}

/// The names that an issuer's refusal is about, and what it says of each.
fn names_at_fault(error: &IssueError) -> Vec<(String, String)> {
    let IssueError::Acme(error) = error else { return Vec::new() };
    let failures = error.names_at_fault().into_iter();
    failures.map(|failure| (failure.name.to_ascii_lowercase(), failure.to_string())).collect()
}
