//! What the store has of a certificate, for those who do not work on it.

use portcullis_policy::UnixTime;

use super::check;
use super::entry::Entry;
use super::rotor::Rotor;
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
    let is_settled = entry.is_settled();
    let older = [entry.last_good.as_ref().map(|good| &good.leaf), entry.previous.as_ref()];
    let replaced_until = older.into_iter().flatten().map(|leaf| leaf.validity.not_after).max();
    let replaces = entry.last_good.as_ref().is_some_and(|good| good.issuer == BUILT_IN);
    Ok(entry.stored.map(|stored| {
        let (root, ca_pem) = stored.under.map(|under| (under.root, under.ca_pem)).unzip();
        Standing {
            chain_pem: stored.chain_pem,
            leaf: stored.leaf,
            is_built_in: stored.issuer == BUILT_IN || replaces,
            issuer: stored.issuer,
            root,
            ca_pem: ca_pem.flatten(),
            is_settled,
            replaced_until,
        }
    }))
}

/// DER of the leaf that the store has of a certificate, if there is one and it can be read.
pub fn stored_leaf(store: &dyn Store, name: &str) -> Option<Vec<u8>> {
    let found = store.read(&Entry::key(name)).ok()??;
    let stored = Entry::from_json(&found.value).ok()?.stored?;
    Some(leaf::chain(&stored.chain_pem).ok()?.first()?.to_vec())
}

impl Rotor {
    /// Under which root of the built-in CA the stored certificate is, and until when.
    pub(super) fn root(&self) -> Option<(String, UnixTime)> {
        let stored = self.entry.stored.as_ref()?;
        Some((stored.under.as_ref()?.root.clone(), stored.leaf.validity.not_after))
    }
}
