//! What the store holds of one credential. Written whole, sealed, by compare-and-swap.

use portcullis_policy::UnixTime;
use portcullis_policy::credential;
use portcullis_policy::credential::Flight;
use portcullis_policy::credential::Record;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use super::source::Lease;
use crate::secret::Secret;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What it is called wherever it must not be shown.
    pub(super) id: String,
    /// Who logs in with it.
    pub(super) account: Option<String>,
    /// The secret: a password, a token, a key.
    pub(super) secret: Secret,
    /// Where it is lent.
    #[serde(default)]
    pub(super) lease: Option<KeptLease>,
    /// When it was made.
    pub(super) since: UnixTime,
    /// When it ends by itself.
    pub(super) not_after: Option<UnixTime>,
    /// Drawn once.
    pub(super) rotate_at: UnixTime,
    /// When its end is to be put off.
    #[serde(default)]
    pub(super) extend_at: Option<UnixTime>,
    /// When its end was last put off.
    #[serde(default)]
    pub(super) extended_at: Option<UnixTime>,
    /// The key that signed it, of a token.
    #[serde(default)]
    pub(super) signed_with: Option<String>,
    /// What it was made of: a source that is another one by now gives another value.
    pub(super) made_of: String,
    /// The target that took it, as [`Target::label`](super::target::Target::label) has it.
    #[serde(default)]
    pub(super) set_on: Option<String>,
}

/// A lease as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptLease {
    pub(super) id: String,
    pub(super) renewable: bool,
    /// The login that it ends with.
    #[serde(default)]
    pub(super) login: Option<String>,
    /// Who lent it, as [`Source::lender`](super::source::Source::lender) has it.
    #[serde(default)]
    pub(super) lent_by: Option<String>,
    /// Seconds that it had when it was new.
    pub(super) lasted: i64,
}

impl KeptLease {
    pub(super) fn lease(&self) -> Lease {
        Lease { id: self.id.clone(), renewable: self.renewable, login: self.login.clone() }
    }
}

impl Kept {
    pub(super) fn record(&self) -> credential::Current {
        let Self { since, not_after, rotate_at, extend_at, extended_at, .. } = *self;
        credential::Current { since: extended_at.unwrap_or(since), not_after, rotate_at, extend_at }
    }

    pub(super) fn is_of(&self, account: &str) -> bool {
        self.account.as_deref() == Some(account)
    }
}

/// A value that was replaced and is good still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Old {
    pub(super) kept: Kept,
    /// The end of the overlap; none until what replaced it is proven.
    pub(super) until: Option<UnixTime>,
}

/// All that is kept of one credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    /// What consumers use.
    pub(super) current: Option<Kept>,
    /// What is to take its place: written down before anybody else learns of it.
    pub(super) next: Option<Kept>,
    /// What was replaced, newest last.
    pub(super) old: Vec<Old>,
    /// What the current value took the place of.
    pub(super) replaced: Option<String>,
    /// The rotation under way.
    pub(super) flight: Option<Flight>,
    /// On whose word, and why.
    pub(super) asked_by: Option<String>,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// Not before this instant.
    pub(super) retry_at: Option<UnixTime>,
    /// Why the last attempt failed.
    pub(super) last_error: Option<String>,
    /// Completed rotations.
    pub(super) rotations: u64,
    /// When the current value was proven to be everywhere.
    pub(super) proven_at: Option<UnixTime>,
    /// When somebody last asked for it.
    pub(super) used_at: Option<UnixTime>,
}

impl Entry {
    pub(super) fn key(name: &str) -> String {
        format!("credential/{name}")
    }

    pub(super) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("an entry is made of strings and numbers"))
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub(super) fn record(&self) -> Record {
        Record {
            current: self.current.as_ref().map(Kept::record),
            next: self.next.as_ref().map(Kept::record),
            flight: self.flight,
            overlap_until: self.old.iter().filter_map(|old| old.until).min(),
            retry_at: self.retry_at,
        }
    }

    /// Identifier of what is in use.
    pub(super) fn id(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.id.as_str())
    }

    /// Every secret that was set on an account and may be on it still.
    pub(super) fn known(&self, account: &str) -> Vec<Secret> {
        let old = self.old.iter().map(|old| &old.kept);
        let all = self.next.iter().chain(&self.current).chain(old);
        all.filter(|kept| kept.is_of(account)).map(|kept| kept.secret.clone()).collect()
    }
}
