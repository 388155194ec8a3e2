//! The keys of those who issue bearer tokens: fetched where the policy says, kept, and filled into the policy that
//! proxies get.
//!
//! Absent: what a key is for ([`portcullis_policy::token`]), and when a policy goes out ([`crate::policy_file`]).
//!
//! What was good stays: a set that cannot be fetched, is too long, is no key set, or holds no key that the provider's
//! algorithms could use changes nothing but the status. The last good set is in the store, so that a start without
//! network goes on with it.

mod document;
mod follow;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::token::Algorithm;
use portcullis_policy::token::KeySet;
use portcullis_policy::token::KeySetError;
use reqwest::Url;
use serde_json::Value;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::fetch;
use crate::fetch::Fetcher;
use crate::fetch::Plain;
use crate::fetch::Wanted;
use crate::keys::KeyError;
use crate::leaf;
use crate::metrics::Metrics;
use crate::store::Store;

pub use document::Providers;
pub use follow::RefreshError;

/// A key set. Whoever can change it can make tokens.
const WANTED: Wanted = Wanted {
    accept: "application/jwk-set+json, application/json",
    max_length: 1024 * 1024,
    whole: Duration::from_secs(15),
    plain: Plain::Refused,
};

/// How key sets are fetched.
pub fn fetcher() -> Fetcher {
    Fetcher::new(WANTED)
}

/// A provider whose keys are fetched. Another URL or other algorithms make it another one: the keys of the one before
/// are not its keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// Its name in the policy.
    pub provider: String,
    /// Where its keys are.
    pub url: Url,
    /// What its keys may be for.
    pub algorithms: Vec<Algorithm>,
}

/// Public keys that a provider may sign with: each a JWK, those left out that no algorithm of it could use.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys(Vec<Value>);

/// Why a document gives a provider no keys. The ones before stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Not a JWK Set.
    #[error("not a key set: {0}")]
    NotASet(#[from] KeySetError),
    /// A set from which nothing could be verified.
    #[error("none of its {0} keys is a public key for the provider's algorithms")]
    NoneUsable(usize),
}

impl Keys {
    /// Reads a JWK Set (RFC 7517 §5) for a provider with these algorithms.
    ///
    /// # Errors
    ///
    /// [`KeysError`]; an empty set is an error as well.
    pub fn read(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeysError> {
        let set = KeySet::from_json(text, algorithms)?;
        let all = set.keys().len() + set.ignored();
        if set.keys().is_empty() {
            return Err(KeysError::NoneUsable(all));
        }
        let document: Value = serde_json::from_slice(text).map_err(|_| KeySetError::NotAnObject)?;
        let entries = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::NoKeys)?;
        let usable = |entry: &&Value| {
            let alone = serde_json::json!({ "keys": [entry] }).to_string();
            KeySet::from_json(alone.as_bytes(), algorithms).is_ok_and(|set| !set.keys().is_empty())
        };
        let mut keys: Vec<Value> = entries.iter().filter(usable).map(public).collect();
        // In another order they are the same keys.
        keys.sort_by_cached_key(Value::to_string);
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JWKs.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// SHA-256, hex: another one with every change.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for key in &self.0 {
            hash.update(key.to_string());
            hash.update(b"\n");
        }
        leaf::hex(&hash.finalize())
    }
}

/// What a verifier needs of a JWK: members that make it a private key stay here if somebody published them.
fn public(key: &Value) -> Value {
    const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

    let members = key.as_object().into_iter().flatten().filter(|(name, _)| !PRIVATE.contains(&name.as_str()));
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// What those who fetch share.
#[derive(Clone)]
pub struct Context {
    /// Where the last good set is kept.
    pub store: Arc<dyn Store>,
    /// Woken when the store has notes for the audit log.
    pub noted: Arc<Notify>,
    /// The status.
    pub board: Board,
    /// Counters.
    pub metrics: Metrics,
    /// How a set is fetched.
    pub fetcher: Fetcher,
    /// Spreads what would otherwise happen at once.
    pub draw: fn() -> Result<u32, KeyError>,
}

/// All that is known of remote keys. Nobody is followed any more when it is dropped.
pub struct Jwks {
    context: Context,
    known: watch::Sender<BTreeMap<Remote, Arc<Keys>>>,
    /// Who is followed, and how to end that.
    followed: BTreeMap<Remote, CancellationToken>,
}

impl Drop for Jwks {
    fn drop(&mut self) {
        for end in self.followed.values() {
            end.cancel();
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("followed", &self.followed.keys()).finish_non_exhaustive()
    }
}

impl Jwks {
    /// Follows nobody yet.
    pub fn new(context: Context) -> Self {
        Self { context, known: watch::Sender::new(BTreeMap::new()), followed: BTreeMap::new() }
    }

    /// What those who fetch share.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Who is followed.
    pub fn followed(&self) -> Vec<Remote> {
        self.followed.keys().cloned().collect()
    }

    /// Follows these and no others. What the store has of a new one is known at once; the rest is fetched. Call it inside
    /// the runtime.
    pub fn follow(&mut self, wanted: &[Remote]) {
        let gone: Vec<Remote> = self.followed.keys().filter(|remote| !wanted.contains(remote)).cloned().collect();
        for remote in gone {
            if let Some(end) = self.followed.remove(&remote) {
                end.cancel();
            }
            self.known.send_if_modified(|known| known.remove(&remote).is_some());
        }
        for remote in wanted {
            if !self.followed.contains_key(remote) {
                let end = CancellationToken::new();
                let follower = follow::Follower::open(self.context.clone(), remote.clone(), self.known.clone());
                tokio::spawn(fetch::follow(follower, end.clone()));
                self.followed.insert(remote.clone(), end);
            }
        }
        let names: Vec<&str> = self.followed.keys().map(|remote| remote.provider.as_str()).collect();
        self.context.board.providers(&names);
    }

    /// The keys known now, by who they are of.
    pub fn known(&self) -> BTreeMap<Remote, Arc<Keys>> {
        self.known.borrow().clone()
    }

    /// Changes with the keys.
    pub fn changes(&self) -> watch::Receiver<BTreeMap<Remote, Arc<Keys>>> {
        self.known.subscribe()
    }

    /// Waits until keys of all of these are known, and no longer than `patience`.
    pub async fn ready(&self, wanted: &[Remote], patience: Duration) {
        let mut known = self.known.subscribe();
        let all = known.wait_for(|known| wanted.iter().all(|remote| known.contains_key(remote)));
        // Whoever has no keys by then goes without: its tokens are refused until it has.
        let _ = tokio::time::timeout(patience, all).await;
    }
}

#[cfg(test)]
mod tests;
