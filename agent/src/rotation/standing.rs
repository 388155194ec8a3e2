//! What the store has of a certificate, for those who do not work on it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use portcullis_policy::UnixTime;

use super::Context;
use super::check;
use super::entry::Credential;
use super::entry::Entry;
use crate::config;
use crate::errors::chain;
use crate::issuer::BUILT_IN;
use crate::issuer::Roots;
use crate::leaf;
use crate::leaf::Leaf;
use crate::store::Store;
use crate::store::StoreError;

/// A certificate as it is in use, for all that is known.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Leaf first, PEM.
    pub(crate) chain_pem: String,
    /// The leaf.
    pub(crate) leaf: Leaf,
    /// Who issued it.
    pub(crate) issuer: String,
}

/// How a certificate stands towards the roots of the built-in CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footing {
    /// Whether the built-in CA issued it, or what it replaces at this moment.
    pub(crate) is_built_in: bool,
    /// SHA-256 of the root of the built-in CA that signed it, if that is written down.
    pub(crate) root: Option<String>,
    /// The roots of the built-in CA that its files hold, PEM, if that is written down.
    pub(crate) ca_pem: Option<String>,
    /// Whether nothing older is in use any more.
    pub(crate) is_settled: bool,
    /// Until when what it replaces is good, whoever issued that; none where it replaces nothing.
    pub(crate) replaced_until: Option<UnixTime>,
}

impl Standing {
    /// Whether a peer that trusts these would accept it, as long as it is valid.
    pub(crate) fn leads_to(&self, roots: &Roots) -> bool {
        check::leads_to(&self.chain_pem, &self.leaf, roots)
    }
}

/// What the store has of the certificate of this name.
///
/// # Errors
///
/// [`StoreError`]. A record that cannot be read is none: its certificate is issued anew.
pub(crate) fn standing(store: &dyn Store, name: &str) -> Result<Option<Standing>, StoreError> {
    let Some(found) = store.read(&Entry::key(name))? else { return Ok(None) };
    let Ok(entry) = Entry::from_json(&found.value) else { return Ok(None) };
    Ok(entry.stored.map(|stored| Standing { chain_pem: stored.chain_pem, leaf: stored.leaf, issuer: stored.issuer }))
}

/// How the certificates stand that are looked after, kept in memory: whoever waits for thousands of them does not read the store
/// each time that one changes.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, Footing>>);

impl Tally {
    pub(super) fn set(&self, name: &str, footing: Option<Footing>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match footing {
            Some(footing) => all.insert(name.to_owned(), footing),
            None => all.remove(name),
        };
    }

    /// How this one stands; none if nobody looks after it, or if there is nothing yet.
    pub(crate) fn of(&self, name: &str) -> Option<Footing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Writes down that somebody goes on with certificates of this name that nobody looks after any more: from now on they are as
/// those that others were issued.
///
/// # Errors
///
/// [`StoreError`].
pub(crate) fn count_dropped(context: &Context, name: &str) -> Result<(), StoreError> {
    let Some(found) = context.store.read(&Entry::key(name))? else { return Ok(()) };
    let Ok(entry) = Entry::from_json(&found.value) else { return Ok(()) };
    count(context, name, &entry);
    Ok(())
}

/// The same of every record that is of no certificate of the configuration.
pub(super) fn count_all_dropped(context: &Context, config: &config::Config) -> Result<(), StoreError> {
    let prefix = Entry::key("");
    for key in context.store.keys(&prefix)? {
        let name = key.strip_prefix(&prefix).unwrap_or_default();
        if config.certificate(name).is_none() {
            count_dropped(context, name)?;
        }
    }
    Ok(())
}

pub(super) fn count(context: &Context, name: &str, entry: &Entry) {
    let now = leaf::now();
    let built_in = |credential: &&Credential| credential.issuer == BUILT_IN;
    for credential in [&entry.stored, &entry.last_good].into_iter().flatten().filter(built_in) {
        let until = credential.leaf.validity.not_after;
        let roots: Vec<String> = match &credential.under {
            Some(under) => vec![under.root.clone()],
            // An older agent did not write it down: any of them.
            None => context.authorities.trusted().iter().map(|root| root.leaf().sha256.clone()).collect(),
        };
        for root in roots.iter().filter(|_| now <= until) {
            if let Err(error) = context.roots.journal().issued(root, until) {
                tracing::error!(certificate = name, error = chain(&error), "its end is not written down");
            }
        }
    }
}

/// DER of the leaf that the store has of a certificate, if there is one and it can be read.
pub fn stored_leaf(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    let found = store.read(&Entry::key(name)).ok()??;
    let stored = Entry::from_json(&found.value).ok()?.stored?;
    Some(leaf::chain(&stored.chain_pem).ok()?.first()?.to_vec())
}
