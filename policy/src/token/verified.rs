//! A verified token, and what became of the one that a request carries.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use super::Claims;
use super::TokenError;
use super::binding::Thumbprint;
use super::provider::ProviderId;
use crate::certificate::Leaf;
use crate::policy::View;
use crate::selftest::TestToken;

/// What became of the token of a request.
#[derive(Clone, Debug, Default)]
pub enum Bearer {
    /// The request has no token, or the policy takes none.
    #[default]
    Absent,
    /// A token that its provider signed and whose claims are in order. Whether the peer may send it is for the decision.
    Verified(Arc<Token>),
    /// A token that is refused.
    Refused(TokenError),
}

/// A verified token, for policies that say the same of tokens and for no other.
pub struct Token {
    providers: Box<str>,
    provider: ProviderId,
    claims: Claims,
    /// Sorted; `None` if the token says nothing of scopes.
    scopes: Option<Box<[Box<str>]>>,
    /// Of the only certificate that may send it.
    bound: Option<Thumbprint>,
    /// What a policy says of the token together with the first certificate that came with it. A token that is bound comes
    /// with no other.
    pair: OnceLock<(Option<[u8; 32]>, View)>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Token {
    pub(crate) fn new(
        providers: &str,
        provider: ProviderId,
        claims: Claims,
        scopes: Option<Box<[Box<str>]>>,
        bound: Option<Thumbprint>,
    ) -> Self {
        Self { providers: providers.into(), provider, claims, scopes, bound, pair: OnceLock::new() }
    }

    /// A token that nobody signed, for the policy's own tests: verified, bound to nobody.
    pub(crate) fn thought_of(providers: &str, token: &TestToken) -> Self {
        let scopes = token.scopes.as_ref().map(|scopes| {
            let mut scopes: Vec<Box<str>> = scopes.iter().map(|scope| scope.as_str().into()).collect();
            scopes.sort_unstable();
            scopes.into()
        });
        Self::new(providers, token.provider, Claims::thought_of(token.claims.clone()), scopes, None)
    }

    /// Version of the providers that it was verified for.
    pub(crate) fn providers(&self) -> &str {
        &self.providers
    }

    pub(crate) fn provider(&self) -> ProviderId {
        self.provider
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether it has all of these scopes; `None` if it says nothing of scopes.
    pub(crate) fn has_scopes(&self, wanted: &[Box<str>]) -> Option<bool> {
        let scopes = self.scopes.as_ref()?;
        Some(wanted.iter().all(|scope| scopes.binary_search(scope).is_ok()))
    }

    /// Whether the peer may send it (RFC 8705 §3): the one certificate that it is bound to.
    ///
    /// # Errors
    ///
    /// [`TokenError::CertificateMissing`] or [`TokenError::CertificateMismatch`].
    pub(crate) fn check_holder(&self, certificate: Option<&Leaf>) -> Result<(), TokenError> {
        match (&self.bound, certificate) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(TokenError::CertificateMissing),
            (Some(bound), Some(leaf)) if bound.is_of(leaf) => Ok(()),
            (Some(_), Some(_)) => Err(TokenError::CertificateMismatch),
        }
    }

    /// What the policy of this version says of it together with a certificate: remembered, or worked out by `look`.
    pub(crate) fn pair(&self, certificate: Option<&Leaf>, policy: &str, look: impl Fn() -> View) -> Cow<'_, View> {
        let hash = certificate.map(|leaf| *leaf.sha256());
        let (known, view) = self.pair.get_or_init(|| (hash, look()));
        if *known == hash && view.policy == policy { Cow::Borrowed(view) } else { Cow::Owned(look()) }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.claims.size() + self.scopes.iter().flatten().map(|scope| scope.len() + 32).sum::<usize>() + 256
    }
}
