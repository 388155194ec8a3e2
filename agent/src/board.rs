//! The status as one shared picture: each part of the agent draws its own corner, and whether the whole is ready is
//! worked out at every stroke.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::status::BundleStatus;
use crate::status::CaStatus;
use crate::status::CertificateStatus;
use crate::status::CredentialStatus;
use crate::status::PolicyStatus;
use crate::status::ProviderStatus;
use crate::status::ProxyStatus;
use crate::status::RevocationStatus;
use crate::status::Status;

/// Reasons that are told; of more than these, only how many.
const REASONS_TOLD: usize = 50;
/// Between two looks at everything for the time that passed.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Handle for those who draw. Clones share one picture.
#[derive(Clone, Debug)]
pub struct Board {
    picture: watch::Sender<Status>,
    /// Of thousands of certificates one is looked at when it changes, not all.
    wrong: Arc<Mutex<Wrong>>,
}

/// What keeps the agent from being ready, by certificate.
#[derive(Debug, Default)]
struct Wrong {
    certificates: BTreeMap<String, Vec<String>>,
    /// Where each stands in the picture.
    places: HashMap<String, usize>,
    looked: Option<Instant>,
}

impl Wrong {
    fn look_at(&mut self, certificate: &CertificateStatus, now: Timestamp) {
        let reasons = of_certificate(certificate, now);
        if reasons.is_empty() {
            self.certificates.remove(&certificate.name);
        } else {
            self.certificates.insert(certificate.name.clone(), reasons);
        }
    }

    fn look_at_all(&mut self, status: &Status, now: Timestamp) {
        self.looked = Some(Instant::now());
        self.certificates.clear();
        for certificate in &status.certificates {
            self.look_at(certificate, now);
        }
    }

    /// In the order of the picture, as far as they are told.
    fn told(&self) -> Vec<String> {
        let mut wrong: Vec<(usize, &Vec<String>)> = Vec::new();
        for (name, reasons) in self.certificates.iter().take(REASONS_TOLD) {
            wrong.push((self.places.get(name).copied().unwrap_or_default(), reasons));
        }
        wrong.sort_unstable_by_key(|(place, _)| *place);
        let mut told: Vec<String> = wrong.into_iter().flat_map(|(_, reasons)| reasons.iter().cloned()).collect();
        if let Some(more) = self.certificates.len().checked_sub(REASONS_TOLD).filter(|more| *more > 0) {
            told.push(format!("{more} more certificates are not in order"));
        }
        told
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// An empty picture, not ready.
    pub fn new() -> Self {
        let starting = Status { reasons: vec!["the agent is starting".to_owned()], ..Status::default() };
        Self { picture: watch::Sender::new(starting), wrong: Arc::default() }
    }

    /// For those who look.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.picture.subscribe()
    }

    /// Names what there will be, in its order; what is not named leaves the picture.
    pub(crate) fn certificates(&self, all: Vec<CertificateStatus>) {
        self.draw(|status, wrong| {
            let changed = replace(&mut status.certificates, all);
            wrong.places = status.certificates.iter().enumerate().map(|(at, one)| (one.name.clone(), at)).collect();
            wrong.look_at_all(status, Timestamp::now());
            changed
        });
    }

    /// Replaces the entry of that name.
    pub(crate) fn certificate(&self, new: CertificateStatus) {
        self.draw(|status, wrong| {
            let Some(slot) = wrong.places.get(&new.name).and_then(|&place| status.certificates.get_mut(place)) else {
                return false;
            };
            wrong.look_at(&new, Timestamp::now());
            replace(slot, new)
        });
    }

    /// Names the credentials that there will be, in this order; who is not named leaves the picture.
    pub(crate) fn credentials<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let names: Vec<&str> = names.collect();
        self.draw(|status, _| {
            let all = names.iter().map(|name| {
                let known = status.credentials.iter().find(|credential| credential.name == *name);
                known.cloned().unwrap_or_else(|| CredentialStatus {
                    name: (*name).to_owned(),
                    state: "planned".to_owned(),
                    ..CredentialStatus::default()
                })
            });
            let all = all.collect();
            replace(&mut status.credentials, all)
        });
    }

    /// Replaces the entry of that name.
    pub(crate) fn credential(&self, new: CredentialStatus) {
        self.draw(|status, _| {
            let slot = status.credentials.iter_mut().find(|old| old.name == new.name);
            slot.is_some_and(|slot| replace(slot, new))
        });
    }

    /// Nobody looks after it; that is tried again then.
    pub(crate) fn credential_failed(&self, name: &str, error: &str, next: Option<Timestamp>) {
        self.draw(|status, _| {
            let Some(slot) = status.credentials.iter_mut().find(|old| old.name == name) else { return false };
            slot.failures += 1;
            slot.next_attempt = next;
            replace(&mut slot.last_error, Some(error.to_owned()))
        });
    }

    /// Replaces the built-in CA.
    pub(crate) fn ca(&self, new: CaStatus) {
        self.draw(|status, _| replace(&mut status.ca, new));
    }

    /// Replaces the bundles.
    pub(crate) fn bundles(&self, all: Vec<BundleStatus>) {
        self.draw(|status, _| replace(&mut status.bundles, all));
    }

    /// Replaces the policy.
    pub(crate) fn policy(&self, change: impl FnOnce(&mut PolicyStatus)) {
        self.draw(|status, _| {
            let mut policy = status.policy.clone();
            change(&mut policy);
            replace(&mut status.policy, policy)
        });
    }

    /// Names the providers that there will be, in this order; who is not named leaves the picture.
    pub(crate) fn providers(&self, names: &[&str]) {
        self.draw(|status, _| {
            let all = names.iter().map(|name| {
                let known = status.providers.iter().find(|provider| provider.name == *name);
                known.cloned().unwrap_or_else(|| ProviderStatus::new(name, ""))
            });
            let all = all.collect();
            replace(&mut status.providers, all)
        });
    }

    /// Replaces the entry of that name.
    pub(crate) fn provider(&self, new: ProviderStatus) {
        self.draw(|status, _| {
            let slot = status.providers.iter_mut().find(|old| old.name == new.name);
            slot.is_some_and(|slot| replace(slot, new))
        });
    }

    /// Replaces what is revoked.
    pub(crate) fn revocations(&self, new: RevocationStatus) {
        self.draw(|status, _| replace(&mut status.revocations, new));
    }

    /// Replaces the proxies.
    pub(crate) fn proxies(&self, all: Vec<ProxyStatus>) {
        self.draw(|status, _| replace(&mut status.proxies, all));
    }

    /// Works readiness out again, for time has passed.
    pub(crate) fn refresh(&self) {
        self.draw(|status, wrong| {
            if wrong.looked.is_none_or(|looked| looked.elapsed() >= BETWEEN_LOOKS) {
                wrong.look_at_all(status, Timestamp::now());
            }
            false
        });
    }

    /// Those who look are woken only if something is different. `change` says whether it changed anything.
    fn draw(&self, change: impl FnOnce(&mut Status, &mut Wrong) -> bool) {
        // Held for moments and never across an await. A panic inside leaves whole values only.
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        self.picture.send_if_modified(|status| {
            let changed = change(status, &mut wrong);
            let mut all = wrong.told();
            all.extend(reasons(status, Timestamp::now()));
            status.ready = all.is_empty();
            replace(&mut status.reasons, all) || changed
        });
    }
}

/// Whether the new value is another.
fn replace<T: PartialEq>(slot: &mut T, new: T) -> bool {
    let changed = *slot != new;
    *slot = new;
    changed
}

/// Why a certificate is not in order, a sentence each.
fn of_certificate(certificate: &CertificateStatus, now: Timestamp) -> Vec<String> {
    let mut reasons = Vec::new();
    let name = &certificate.name;
    let Some(stored) = &certificate.stored else {
        reasons.push(format!("certificate `{name}` was not issued yet"));
        return reasons;
    };
    if stored.not_after < now {
        reasons.push(format!("certificate `{name}` ended at {}", stored.not_after));
    } else if stored.not_before > now {
        reasons.push(format!("certificate `{name}` is not valid before {}; check the clock", stored.not_before));
    }
    if certificate.installed.as_ref() != Some(&stored.serial) {
        reasons.push(format!("certificate `{name}` is stored and was not taken by every target yet"));
    }
    for served in certificate.served.iter().filter(|served| !served.current) {
        let what = match (&served.error, &served.leaf) {
            (_, Some(leaf)) if leaf.not_after < now => format!("serves one that ended at {}", leaf.not_after),
            (_, Some(leaf)) if leaf.serial != stored.serial => format!("serves serial {}", leaf.serial),
            (Some(error), _) => error.clone(),
            (None, _) => "was not looked at yet".to_owned(),
        };
        reasons.push(format!("certificate `{name}` at `{}`: {what}", served.address));
    }
    if let Some(error) = certificate.last_error.as_ref().filter(|_| certificate.failures > 0) {
        reasons.push(format!("certificate `{name}`: {error}"));
    }
    reasons
}

/// Why the agent is not ready beside its certificates, a sentence each.
fn reasons(status: &Status, now: Timestamp) -> Vec<String> {
    let mut reasons = Vec::new();
    for credential in &status.credentials {
        let name = &credential.name;
        if let Some(end) = credential.not_after.filter(|end| *end < now) {
            reasons.push(format!("credential `{name}` ended at {end}"));
        }
        match &credential.last_error {
            Some(error) if credential.failures > 0 => reasons.push(format!("credential `{name}`: {error}")),
            _ if credential.id.is_none() && !credential.is_on_demand => {
                reasons.push(format!("credential `{name}` was not made yet"));
            }
            _ => {}
        }
    }
    for bundle in status.bundles.iter().filter(|bundle| !bundle.acknowledged) {
        reasons.push(format!("bundle `{}` was not taken by every proxy yet", bundle.name));
    }
    for provider in status.providers.iter().filter(|provider| provider.keys == 0) {
        let why = provider.last_error.as_deref().unwrap_or("they were not fetched yet");
        reasons.push(format!("provider `{}` has no keys, and none of its tokens is taken: {why}", provider.name));
    }
    for list in status.revocations.lists.iter().filter(|list| list.is_stale(now)) {
        let since = match list.next_update {
            None => "none was ever taken".to_owned(),
            Some(end) => format!("the last one was good until {end}"),
        };
        let why = list.last_error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
        reasons.push(format!("revocation list `{}` is stale, {since}{why}", list.name));
    }
    if let Some(error) = &status.policy.error {
        reasons.push(format!("the policy is not in force: {error}"));
    } else if status.policy.version.is_some() && !status.policy.acknowledged {
        reasons.push("the policy was not taken by every proxy yet".to_owned());
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::InHandshake;

    #[test]
    fn what_no_proxy_took_is_a_reason() {
        let board = Board::new();
        let bundle = |acknowledged| BundleStatus {
            name: "clients".to_owned(),
            entries: Vec::new(),
            not_before: BTreeMap::new(),
            version: "1".to_owned(),
            acknowledged,
            in_handshake: InHandshake::Nobody,
        };
        board.bundles(vec![bundle(false)]);
        board.policy(|policy| policy.version = Some("1".to_owned()));
        let reasons = board.watch().borrow().reasons.clone();
        assert_eq!(
            reasons,
            ["bundle `clients` was not taken by every proxy yet", "the policy was not taken by every proxy yet"]
        );
        board.bundles(vec![bundle(true)]);
        board.policy(|policy| policy.acknowledged = true);
        assert!(board.watch().borrow().ready);
    }

    fn unissued(name: &str) -> CertificateStatus {
        CertificateStatus {
            name: name.to_owned(),
            identity: String::new(),
            issuer: String::new(),
            state: "none".to_owned(),
            stored: None,
            chain: Vec::new(),
            installed: None,
            served: Vec::new(),
            next_attempt: None,
            renew_at: None,
            waits_for: None,
            is_fallback: false,
            dead_names: Vec::new(),
            last_error: None,
            rotations: 0,
            failures: 0,
            issued_to_served_ms: None,
        }
    }

    #[test]
    fn of_very_many_reasons_the_first_are_told_and_the_rest_counted() {
        let board = Board::new();
        let names: Vec<String> = (0..REASONS_TOLD + 10).map(|number| format!("shop-{number:03}")).collect();
        board.certificates(names.iter().map(|name| unissued(name)).collect());
        let reasons = board.watch().borrow().reasons.clone();
        assert_eq!(reasons.len(), REASONS_TOLD + 1);
        assert_eq!(reasons[0], "certificate `shop-000` was not issued yet");
        assert_eq!(reasons[REASONS_TOLD], "10 more certificates are not in order");
        // One that changes is looked at by itself.
        let failed = CertificateStatus { state: "failed".to_owned(), ..unissued("shop-007") };
        board.certificate(failed);
        assert_eq!(board.watch().borrow().certificates[7].state, "failed");
        board.certificate(unissued("stranger"));
        assert_eq!(board.watch().borrow().certificates.len(), names.len(), "who was not named stays away");
        board.certificates(Vec::new());
        assert!(board.watch().borrow().ready);
    }
}
