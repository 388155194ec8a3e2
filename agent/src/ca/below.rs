//! Authorities below a root: which there are, which one signs, and how one is added or goes.

use std::sync::Arc;
use std::sync::PoisonError;

use portcullis_policy::UnixTime;

use super::Authority;
use super::CaError;
use super::Intermediate;
use super::Order;
use super::ROOT_FILE;
use super::intermediate;
use super::offline;
use crate::config;
use crate::leaf;

/// Those below a root.
pub(super) struct Intermediates {
    /// Oldest first.
    pub(super) all: Vec<Arc<Intermediate>>,
    signs: Signs,
}

/// Which of them signs.
enum Signs {
    Newest,
    /// None yet: the root does.
    Nobody,
    /// The one of this SHA-256, or the newest if it is gone.
    This(String),
}

impl Intermediates {
    /// Of which the newest signs.
    pub(super) fn new(all: Vec<Arc<Intermediate>>) -> Self {
        Self { all, signs: Signs::Newest }
    }

    fn signs(&self) -> Option<&Arc<Intermediate>> {
        match &self.signs {
            Signs::Newest => self.all.last(),
            Signs::Nobody => None,
            Signs::This(sha256) => self.all.iter().find(|one| one.leaf().sha256 == *sha256).or_else(|| self.all.last()),
        }
    }
}

/// Who signs a leaf.
pub(super) enum Signer {
    Root,
    Below(Arc<Intermediate>),
}

impl Authority {
    /// Whether the root's key is at hand.
    pub fn has_key(&self) -> bool {
        self.issuer.is_some()
    }

    /// Who signs now.
    pub(super) fn signer(&self) -> Result<Signer, CaError> {
        match self.signing() {
            Some(below) => Ok(Signer::Below(below)),
            None if self.has_key() => Ok(Signer::Root),
            None => Err(CaError::NoIntermediate { remedy: self.remedy() }),
        }
    }

    /// Who signs an order that may have been made a while ago: an intermediate that lives as long as the leaf.
    pub(super) fn signer_of(&self, order: &Order) -> Result<Signer, CaError> {
        let lives = |one: &Arc<Intermediate>| one.leaf().validity.not_after >= order.validity.not_after;
        match self.signer()? {
            Signer::Below(below) if !lives(&below) => {
                let validity = below.leaf().validity;
                let other = self.intermediates().into_iter().rev().find(lives).map(Signer::Below);
                other.ok_or_else(|| CaError::IntermediateNotValid { validity, remedy: self.remedy() })
            }
            signer => Ok(signer),
        }
    }

    /// Those below it that are kept, oldest first.
    pub fn intermediates(&self) -> Vec<Arc<Intermediate>> {
        self.below.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The newest of them.
    pub(crate) fn newest(&self) -> Option<Arc<Intermediate>> {
        self.below.read().unwrap_or_else(PoisonError::into_inner).all.last().cloned()
    }

    /// The one that signs; none where the root does.
    pub fn signing(&self) -> Option<Arc<Intermediate>> {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        below.signs().filter(|_| self.delegates).cloned()
    }

    /// Has leaves signed by this one of them.
    pub(crate) fn sign_with(&self, sha256: &str) {
        self.below.write().unwrap_or_else(PoisonError::into_inner).signs = Signs::This(sha256.to_owned());
    }

    /// Has the root sign another one, looks at it as a peer would, and keeps it. Leaves are signed by the one before as long as
    /// that is named ([`Self::sign_with`]).
    pub(crate) fn make_intermediate(&self, config: &config::Ca, now: UnixTime) -> Result<Arc<Intermediate>, CaError> {
        let wanted = config.intermediate.unwrap_or_default();
        let root = self.issuer.as_ref().ok_or_else(|| CaError::NoIntermediate { remedy: self.remedy() })?;
        if !offline::may_have_below(&self.der) {
            return Err(CaError::NobodyBelow { path: self.directory.join(ROOT_FILE) });
        }
        let awaited = intermediate::Awaited::next(&self.directory)?;
        let validity = intermediate::validity(self.leaf.validity, wanted.lifetime, now);
        let (domain, pair) = (Some(config.trust_domain.as_str()), awaited.pair()?);
        let signed = intermediate::sign(domain, None, &self.constraints, validity, &pair, root)?;
        self.take(&awaited, &signed.pem(), &config.trust_domain, now)
    }

    /// Takes the certificate of an intermediate that somebody else signed: the chain in PEM, with the root at its end or without.
    ///
    /// # Errors
    ///
    /// [`CaError`]: it is not of the key that was asked for, or no peer would believe it. Nothing is changed then.
    pub(crate) fn install(
        &self,
        chain_pem: &str,
        trust_domain: &str,
        now: UnixTime,
    ) -> Result<Arc<Intermediate>, CaError> {
        let chain = leaf::chain(chain_pem).map_err(|_| CaError::NotAChain)?;
        if let Some(root) = chain.get(1)
            && *root != self.der
        {
            return Err(CaError::OtherRoot { path: self.directory.join(ROOT_FILE) });
        }
        self.take(&intermediate::Awaited::next(&self.directory)?, chain_pem, trust_domain, now)
    }

    fn take(
        &self,
        awaited: &intermediate::Awaited,
        pem: &str,
        trust_domain: &str,
        now: UnixTime,
    ) -> Result<Arc<Intermediate>, CaError> {
        let taken = awaited.with(pem)?;
        offline::check(&taken, &self.der, trust_domain, now)?;
        awaited.keep(&taken)?;
        let taken = Arc::new(taken);
        let mut below = self.below.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever signs goes on until it is said that everybody knows the other.
        below.signs = match below.signs() {
            Some(one) => Signs::This(one.leaf().sha256.clone()),
            None if self.has_key() => Signs::Nobody,
            None => Signs::Newest,
        };
        below.all.push(Arc::clone(&taken));
        Ok(taken)
    }

    /// Destroys those that have ended, but for the newest. Says which.
    pub(crate) fn remove_ended(&self, now: UnixTime) -> Result<Vec<Arc<Intermediate>>, CaError> {
        let all = self.intermediates();
        let older = all.len().saturating_sub(1);
        let ended = all.into_iter().take(older).filter(|one| one.leaf().validity.has_ended(now));
        let ended: Vec<_> = ended.collect();
        for one in &ended {
            one.remove(&self.directory)?;
            let mut below = self.below.write().unwrap_or_else(PoisonError::into_inner);
            below.all.retain(|other| other.leaf().sha256 != one.leaf().sha256);
        }
        Ok(ended)
    }

    /// What to do where nothing can be signed.
    pub(super) fn remedy(&self) -> &'static str {
        if self.has_key() {
            "look at the clock and at the agent's log: another one is made by itself"
        } else {
            "`portcullis ca request` here, `portcullis ca sign` where the root's key is, `portcullis ca install` here"
        }
    }
}
