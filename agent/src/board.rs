//! The status as one shared picture: each part of the agent draws its own corner, and whether the whole is ready is
//! worked out at every stroke.

use jiff::Timestamp;
use tokio::sync::watch;

use crate::status::BundleStatus;
use crate::status::CaStatus;
use crate::status::CertificateStatus;
use crate::status::PolicyStatus;
use crate::status::ProviderStatus;
use crate::status::ProxyStatus;
use crate::status::RevocationStatus;
use crate::status::Status;

/// Handle for those who draw. Clones share one picture.
#[derive(Clone, Debug)]
pub struct Board(watch::Sender<Status>);

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// An empty picture, not ready.
    pub fn new() -> Self {
        let starting = Status { reasons: vec!["the agent is starting".to_owned()], ..Status::default() };
        Self(watch::Sender::new(starting))
    }

    /// For those who look.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.0.subscribe()
    }

    /// Names what there will be, in its order; what is not named leaves the picture.
    pub(crate) fn certificates(&self, all: Vec<CertificateStatus>) {
        self.draw(|status| replace(&mut status.certificates, all));
    }

    /// Replaces the entry of that name.
    pub(crate) fn certificate(&self, new: CertificateStatus) {
        self.draw(|status| {
            let slot = status.certificates.iter_mut().find(|old| old.name == new.name);
            slot.is_some_and(|slot| replace(slot, new))
        });
    }

    /// Replaces the built-in CA.
    pub(crate) fn ca(&self, new: CaStatus) {
        self.draw(|status| replace(&mut status.ca, new));
    }

    /// Replaces the bundles.
    pub(crate) fn bundles(&self, all: Vec<BundleStatus>) {
        self.draw(|status| replace(&mut status.bundles, all));
    }

    /// Replaces the policy.
    pub(crate) fn policy(&self, change: impl FnOnce(&mut PolicyStatus)) {
        self.draw(|status| {
            let mut policy = status.policy.clone();
            change(&mut policy);
            replace(&mut status.policy, policy)
        });
    }

    /// Names the providers that there will be, in this order; who is not named leaves the picture.
    pub(crate) fn providers(&self, names: &[&str]) {
        self.draw(|status| {
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
        self.draw(|status| {
            let slot = status.providers.iter_mut().find(|old| old.name == new.name);
            slot.is_some_and(|slot| replace(slot, new))
        });
    }

    /// Replaces what is revoked.
    pub(crate) fn revocations(&self, new: RevocationStatus) {
        self.draw(|status| replace(&mut status.revocations, new));
    }

    /// Replaces the proxies.
    pub(crate) fn proxies(&self, all: Vec<ProxyStatus>) {
        self.draw(|status| replace(&mut status.proxies, all));
    }

    /// Works readiness out again, for time has passed.
    pub(crate) fn refresh(&self) {
        self.draw(|_| false);
    }

    /// Those who look are woken only if something is different. `change` says whether it changed anything.
    fn draw(&self, change: impl FnOnce(&mut Status) -> bool) {
        self.0.send_if_modified(|status| {
            let changed = change(status);
            let reasons = reasons(status, Timestamp::now());
            status.ready = reasons.is_empty();
            replace(&mut status.reasons, reasons) || changed
        });
    }
}

/// Whether the new value is another.
fn replace<T: PartialEq>(slot: &mut T, new: T) -> bool {
    let changed = *slot != new;
    *slot = new;
    changed
}

/// Why the agent is not ready, a sentence each; none if it is.
fn reasons(status: &Status, now: Timestamp) -> Vec<String> {
    let mut reasons = Vec::new();
    for certificate in &status.certificates {
        let name = &certificate.name;
        let Some(stored) = &certificate.stored else {
            reasons.push(format!("certificate `{name}` was not issued yet"));
            continue;
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
}
