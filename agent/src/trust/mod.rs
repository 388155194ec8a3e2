//! Whom proxies trust: each bundle with its authorities, and with the revocation lists by which a proxy refuses a peer in the
//! handshake, before a request gets as far as the filter.
//!
//! Absent: who is revoked ([`crate::revocation`]). Only serial numbers get this far; what is revoked by its hash, key, name or
//! date is the filter's to refuse, and so is everybody whom a list cannot be pushed for. The filter knows of all of them.

mod leave;
mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::revocation::WhenStale;
use sha2::Digest as _;
use sha2::Sha256;

use crate::ca::Authorities;
use crate::ca::Authority;
use crate::config;
use crate::errors::chain;
use crate::issuer::Roots;
use crate::leaf;
use crate::leaf::Leaf;
use crate::resource::Body;
use crate::resource::Resource;
use crate::revocation::ListAuthority;
use crate::revocation::Sha256Hex;
use crate::status::BundleStatus;
use crate::status::InHandshake;
use crate::xds::Publisher;

pub(crate) use leave::StillNeeded;
pub(crate) use leave::may_leave;
pub(crate) use leave::may_leave_issuers;
pub use plan::OwnEntry;

use plan::Part;

/// The way of bundles to the proxies. Clones share one state.
#[derive(Clone)]
pub struct Trust {
    state: Arc<Mutex<State>>,
    authorities: Authorities,
    publisher: Publisher,
}

/// A revocation list of an authority, as it may go into a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityList {
    /// Whose.
    pub authority: ListAuthority,
    /// DER; none if it is too long to be pushed.
    pub der: Option<Arc<[u8]>>,
    /// Whether it is about everything that the authority issued.
    pub is_whole: bool,
    /// How many are on it.
    pub entries: usize,
    /// Its last second.
    pub next_update: UnixTime,
}

/// Whether lists go into bundles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// Where there is one for every authority.
    #[default]
    Refuses,
    /// Never.
    LeftToFilter,
}

#[derive(Default)]
struct State {
    handshake: Handshake,
    when_stale: WhenStale,
    bundles: Vec<config::Bundle>,
    /// Of the built-in CA.
    own: Vec<OwnEntry>,
    /// Of others.
    lists: Vec<AuthorityList>,
    /// Versions as pushed, by the name of the bundle.
    sent: BTreeMap<String, String>,
    statuses: Vec<BundleStatus>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    /// No bundle yet, and nobody revoked.
    pub fn new(publisher: Publisher, authorities: impl Into<Authorities>, config: &config::Revocation) -> Self {
        let state = State { handshake: config.handshake, when_stale: config.when_stale, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), authorities: authorities.into(), publisher }
    }

    /// The built-in CA: the root that signs.
    pub fn authority(&self) -> Arc<Authority> {
        self.authorities.issuing()
    }

    /// What a bundle trusts, as it is pushed; none if there is none of that name.
    pub(crate) fn roots_of(&self, name: &str) -> Option<Roots> {
        let state = self.state();
        let bundle = state.bundles.iter().find(|bundle| bundle.name == name)?;
        let own = self.authorities.trusted();
        Some(Roots::these(own.iter().map(|root| root.der().clone()).chain(bundle.also.iter().cloned()).collect()))
    }

    /// SHA-256 of the names that certificates of the built-in CA give as their issuer.
    pub(crate) fn own_names(&self) -> Vec<Sha256Hex> {
        self.authorities.trusted().iter().flat_map(|root| root.names_sha256()).collect()
    }

    /// Pushes these bundles, and no others any more. Call it before any certificate is pushed, so that whoever gets a new one
    /// trusts it.
    pub fn bundles(&self, bundles: &[config::Bundle]) {
        let mut state = self.state();
        for gone in state.bundles.iter().filter(|old| bundles.iter().all(|new| new.name != old.name)) {
            self.publisher.remove(&gone.name);
        }
        state.bundles = bundles.to_vec();
        state.sent.retain(|name, _| bundles.iter().any(|bundle| bundle.name == *name));
        self.push(&mut state, leaf::now());
    }

    /// Pushes the bundles whose authorities revoked others than before.
    pub fn revoked(&self, own: Vec<OwnEntry>, lists: Vec<AuthorityList>) {
        let mut state = self.state();
        (state.own, state.lists) = (own, lists);
        self.push(&mut state, leaf::now());
    }

    /// Looks at the clock: a list may have to be renewed, or left out. Call it once a minute or more often, and whenever the
    /// roots of the built-in CA are others.
    pub fn tick(&self) {
        self.push(&mut self.state(), leaf::now());
    }

    /// For the status; what proxies took of it is not known here.
    pub fn statuses(&self) -> Vec<BundleStatus> {
        self.state().statuses.clone()
    }

    fn push(&self, state: &mut State, now: UnixTime) {
        let mut statuses = Vec::with_capacity(state.bundles.len());
        let bundles = std::mem::take(&mut state.bundles);
        for bundle in &bundles {
            let planned = plan::lists(bundle, state, now);
            let (parts, in_handshake) = match planned {
                Ok(parts) => {
                    let status = self.describe(&parts, state);
                    (parts, status)
                }
                Err(why) => (Vec::new(), InHandshake::LeftToFilter { why: why.to_string() }),
            };
            let version = self.version(bundle, &parts, state);
            if state.sent.get(&bundle.name) != Some(&version) {
                self.publish(bundle, &version, &parts, state);
                state.sent.insert(bundle.name.clone(), version.clone());
            }
            let before = state.statuses.iter().find(|status| status.name == bundle.name);
            if let InHandshake::LeftToFilter { why } = &in_handshake
                && before.is_none_or(|before| before.in_handshake != in_handshake)
            {
                tracing::warn!(bundle = bundle.name, why, "whoever is revoked is refused by the filter only");
            }
            let roots = self.authorities.trusted();
            let others = bundle.also.iter().filter_map(|der| Leaf::from_der(der).ok());
            let all: Vec<Leaf> = roots.iter().map(|root| root.leaf().clone()).chain(others).collect();
            let of = |leaf: &Leaf, at: UnixTime| (leaf.sha256.clone(), leaf::timestamp(at));
            let entries = all.iter().map(|leaf| of(leaf, leaf.validity.not_after)).collect();
            let not_before = all.iter().map(|leaf| of(leaf, leaf.validity.not_before)).collect();
            let name = bundle.name.clone();
            statuses.push(BundleStatus { name, entries, not_before, version, acknowledged: false, in_handshake });
        }
        (state.bundles, state.statuses) = (bundles, statuses);
    }

    fn describe(&self, parts: &[Part], state: &State) -> InHandshake {
        let entries = parts.iter().map(|part| part.entries(&state.own)).sum();
        match parts.iter().map(Part::next_update).min() {
            None => InHandshake::Nobody,
            Some(until) => InHandshake::Refused { entries, until: leaf::timestamp(until) },
        }
    }

    /// Another one whenever the bundle says something else, and the same after a restart: no list is signed twice alike.
    fn version(&self, bundle: &config::Bundle, parts: &[Part], state: &State) -> String {
        let mut hash = Sha256::new();
        hash.update(self.pem(bundle));
        for id in &bundle.spiffe {
            hash.update(b"\0");
            hash.update(id);
        }
        for part in parts {
            hash.update(b"\0list\0");
            hash.update(part.digest(&state.own));
            if matches!(part, Part::Own(..)) {
                // Each has a list of its own.
                let (roots, now) = (self.authorities.trusted(), leaf::now());
                let below = roots.iter().flat_map(|root| root.intermediates());
                for one in below.filter(|one| !one.leaf().validity.has_ended(now)) {
                    hash.update(&one.leaf().sha256);
                }
            }
        }
        leaf::hex(&hash.finalize())
    }

    fn pem(&self, bundle: &config::Bundle) -> String {
        let others = bundle.also.iter().map(|der| leaf::pem("CERTIFICATE", der));
        std::iter::once(self.authorities.pem()).chain(others).collect()
    }

    fn publish(&self, bundle: &config::Bundle, version: &str, parts: &[Part], state: &State) {
        // One that grows with every list, whatever was signed before (RFC 5280 §5.2.3).
        let number = Timestamp::now().as_millisecond().unsigned_abs();
        let roots = self.authorities.trusted();
        let signed: Result<String, _> = parts.iter().map(|part| part.pem(&roots, &state.own, number)).collect();
        let crl_pem = match signed {
            Ok(text) => (!text.is_empty()).then_some(text),
            Err(error) => {
                tracing::error!(
                    bundle = bundle.name,
                    error = chain(&error),
                    "the bundle goes without revocation lists"
                );
                None
            }
        };
        let (trusted_ca_pem, match_uri) = (self.pem(bundle), bundle.spiffe.clone());
        let body = Body::ValidationContext { trusted_ca_pem, match_uri, crl_pem };
        let resource = Resource { name: bundle.name.clone(), version: version.to_owned(), body };
        if let Err(error) = self.publisher.publish(resource) {
            tracing::error!(bundle = bundle.name, error = chain(&error), "not published");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Held for as long as a signature takes, and never across an await. A panic inside leaves whole values only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
