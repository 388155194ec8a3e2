//! The keys that sign tokens now, and the rings that they are of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;

use super::entry::Entry;
use super::entry::Kept;
use super::made;
use super::made::SigningAlgorithm;
use crate::keys::KeyError;
use crate::secret::Secret;

/// A key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signer {
    /// `kid`.
    pub kid: String,
    /// PKCS#8, PEM.
    pub key: Secret,
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
}

/// Who signs, by the name of the credential. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Rings(Arc<Mutex<BTreeMap<String, watch::Sender<Option<Signer>>>>>);

impl Rings {
    /// The key of that name: none while there is none that everybody has.
    pub(super) fn watch(&self, name: &str) -> watch::Receiver<Option<Signer>> {
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rings.entry(name.to_owned()).or_insert_with(|| watch::channel(None).0).subscribe()
    }

    /// From now on this one signs.
    pub(super) fn sign_with(&self, name: &str, signer: Signer) {
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = rings.entry(name.to_owned()).or_insert_with(|| watch::channel(None).0);
        ring.send_if_modified(|before| {
            let is_other = before.as_ref() != Some(&signer);
            *before = Some(signer);
            is_other
        });
    }
}

/// What a ring of tickets is made of.
const TICKET_KEYS: &str = "session_ticket_keys";

impl Kept {
    /// What a signing key was made for, whatever the configuration asks for by now.
    pub(super) fn signs_with(&self) -> Option<SigningAlgorithm> {
        let name = self.made_of.strip_prefix("signing_key ")?;
        [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa].into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

impl Entry {
    /// The keys of a ring as they are published: the one in use first, then the one that is to follow it, then those that
    /// were replaced, the newest first.
    pub(super) fn ring(&self) -> Vec<&Kept> {
        let old = self.old.iter().rev().map(|old| &old.kept);
        self.current.iter().chain(&self.next).chain(old).collect()
    }

    /// The keys of a ring of tickets.
    pub(super) fn ticket_keys(&self) -> Vec<&Kept> {
        self.ring().into_iter().filter(|kept| kept.made_of == TICKET_KEYS).collect()
    }

    /// Its public halves (RFC 7517 §5).
    pub(super) fn key_set(&self) -> Result<Value, KeyError> {
        let keys = self.ring().into_iter().filter_map(|kept| Some((kept, kept.signs_with()?)));
        let keys = keys.map(|(kept, algorithm)| made::jwk(&kept.id, &kept.secret, algorithm));
        let keys: Vec<Value> = keys.collect::<Result<_, _>>()?;
        Ok(json!({ "keys": keys }))
    }
}
