//! The certificates that an agent says are no longer believed: a sorted set of fixed-size keys, small enough to be sent
//! whole with every change.
//!
//! Absent: where the keys come from (lists of authorities, an operator), and signatures; whoever makes the set checked them.
//! Beside a policy's own `revoked` and `distrust`, which people write, this is `revocations`, which only programs do. It is
//! no part of what a policy says: a policy's own tests, and certificates that are only thought of, are not held against it.

mod key;
mod text;

use sha2::Digest as _;
use sha2::Sha256;

use crate::certificate::Leaf;
use crate::hex::Hex;
use crate::reason::Reason;
use crate::time::UnixTime;

pub use key::IssuerName;
pub use key::Key;
pub(crate) use text::RevocationsText;
pub use text::join;
pub(crate) use text::version_with;

/// The most keys that a set may have. A document with more is refused before they are read.
pub const MAX_KEYS: usize = 1_000_000;

/// The most brakes that a set may have: each is asked about every certificate.
pub const MAX_BRAKES: usize = 1_000;

/// What becomes of requests when the set is older than it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenStale {
    /// Nobody is let in.
    #[default]
    Deny,
    /// The set is used as it is, and the requests are counted.
    Allow,
}

/// Everything that an authority issued before an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Brake {
    /// The authority, by the name that its certificates give as their issuer.
    pub issuer: IssuerName,
    /// Certificates whose validity began before this are not believed.
    pub issued_before: UnixTime,
}

/// Until when a set is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The last second; `None` is forever.
    pub until: Option<UnixTime>,
    /// What follows.
    pub when_stale: WhenStale,
}

/// A set of revoked certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Sorted, none twice.
    keys: Vec<Key>,
    /// Sorted, none twice.
    brakes: Vec<Brake>,
    freshness: Freshness,
}

impl Revocations {
    /// A set of these, in any order.
    pub fn new(mut keys: Vec<Key>, mut brakes: Vec<Brake>, freshness: Freshness) -> Self {
        keys.sort_unstable();
        keys.dedup();
        brakes.sort_unstable();
        brakes.dedup();
        Self { keys, brakes, freshness }
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.brakes.is_empty() && self.freshness.until.is_none()
    }

    /// The keys, sorted.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The brakes, sorted.
    pub fn brakes(&self) -> &[Brake] {
        &self.brakes
    }

    /// Until when it is good.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// The first half of a SHA-256 over all that it says, in hex: equal sets have equal versions.
    pub fn version(&self) -> String {
        let mut hash = Sha256::new();
        // Lengths first, so that no two sets are the same bytes.
        hash.update((self.keys.len() as u64).to_le_bytes());
        self.keys.iter().for_each(|key| hash.update(key.as_bytes()));
        hash.update((self.brakes.len() as u64).to_le_bytes());
        for brake in &self.brakes {
            hash.update(brake.issuer.as_bytes());
            hash.update(brake.issued_before.0.to_le_bytes());
        }
        hash.update([
            u8::from(self.freshness.until.is_some()),
            u8::from(self.freshness.when_stale == WhenStale::Allow),
        ]);
        hash.update(self.freshness.until.map_or(0, |until| until.0).to_le_bytes());
        let whole: [u8; 32] = hash.finalize().into();
        let (half, _) = whole.split_at(16);
        Hex(half).to_string()
    }

    /// Why a certificate is not believed at any time, if so. One that nobody signed is not asked about.
    pub fn judge(&self, leaf: &Leaf) -> Option<Reason> {
        let issuer = IssuerName::of(leaf)?;
        if self.keys.is_empty() && self.brakes.is_empty() {
            return None;
        }
        let listed = |key: Key| self.keys.binary_search(&key).is_ok();
        if Key::all_of(leaf, &issuer).any(listed) {
            return Some(Reason::CertificateRevoked);
        }
        let covers = |brake: &Brake| brake.issuer == issuer && leaf.not_before() < brake.issued_before;
        self.brakes.iter().any(covers).then_some(Reason::CertificateDistrusted)
    }

    /// The last second at which it is not too old; `None` is forever.
    pub(crate) fn fresh_until(&self) -> Option<UnixTime> {
        self.freshness.until
    }

    /// Whether it is older at `now` than it may be.
    pub fn is_stale(&self, now: UnixTime) -> bool {
        self.freshness.until.is_some_and(|until| now > until)
    }

    /// Why a certificate is not believed at `now` because of the set's age, if so.
    pub(crate) fn doubt(&self, now: UnixTime, leaf: &Leaf) -> Option<Reason> {
        let denies = self.freshness.when_stale == WhenStale::Deny && IssuerName::of(leaf).is_some();
        (denies && self.is_stale(now)).then_some(Reason::RevocationStale)
    }
}
