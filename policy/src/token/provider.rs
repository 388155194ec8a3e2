//! Who issues tokens, and the one path from a token's text to a verified token.

use super::Expectations;
use super::Jws;
use super::KeySet;
use super::RegisteredClaims;
use super::TokenError;
use super::binding::Binding;
use super::claim::ClaimPath;
use super::scopes;
use super::verified::Token;
use crate::hex::Hex;
use crate::render;
use crate::signature::Verifier;
use crate::time::UnixTime;

/// One issuer of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) name: Box<str>,
    pub(crate) expected: Expectations,
    pub(crate) binding: Binding,
    pub(crate) scope_claim: Option<ClaimPath>,
    pub(crate) keys: KeySet,
}

/// A provider's place among the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProviderId(pub(crate) u32);

/// The providers of a policy, sorted by name. No two have one issuer; one that takes tokens without `iss` is the only one.
#[derive(Clone, Debug)]
pub(crate) struct Providers {
    pub(crate) list: Vec<Provider>,
    /// Hash of all that they say. What is verified is verified for providers that say the same.
    version: String,
}

impl Providers {
    pub(crate) fn new(list: Vec<Provider>) -> Self {
        let version = Hex(&render::tokens_digest(&list)).to_string();
        Self { list, version }
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Whether no tokens are taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn get(&self, id: ProviderId) -> Option<&Provider> {
        self.list.get(id.0 as usize)
    }

    /// The provider of a name.
    pub(crate) fn named(&self, name: &str) -> Option<ProviderId> {
        self.list
            .binary_search_by(|provider| provider.name.as_ref().cmp(name))
            .ok()
            .map(|place| ProviderId(place as u32))
    }

    /// Verifies a token: see [`verify`], which is asked with the keys of the provider that its `iss` names, or of the only one
    /// where it has none.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub(crate) fn verify(&self, text: &[u8], now: UnixTime, verifier: &mut dyn Verifier) -> Result<Token, TokenError> {
        let jws = Jws::parse(text)?;
        let registered = RegisteredClaims::parse(jws.payload())?;
        let (id, provider) = self.issuer(&registered)?;
        verify(&jws, &registered, &provider.keys, &provider.expected, now, verifier)?;

        let claims = registered.keep()?;
        let bound = provider.binding.thumbprint(claims.all())?;
        let scopes = scopes::read(&claims, provider.scope_claim.as_ref())?;
        Ok(Token::new(&self.version, id, claims, scopes, bound))
    }

    /// The provider that claims which nobody has verified yet would be of.
    fn issuer(&self, claims: &RegisteredClaims<'_>) -> Result<(ProviderId, &Provider), TokenError> {
        let wrong = if claims.issuer()?.is_some() { TokenError::IssuerMismatch } else { TokenError::IssuerMissing };
        let mut providers = (0..).map(ProviderId).zip(&self.list);
        providers.find(|(_, provider)| claims.check_issuer(&provider.expected).is_ok()).ok_or(wrong)
    }
}

/// Verifies that a token is of an issuer with these keys, and good now. `claims` are those of the token's own payload.
///
/// What is cheap to find out comes first, the arithmetic last: until then the claims can only be a reason to refuse. In this
/// order, which is part of the contract: issuer, algorithm, key, times, audience, signature. Whether a token is bound to a
/// certificate is not asked here.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn verify(
    token: &Jws<'_>,
    claims: &RegisteredClaims<'_>,
    keys: &KeySet,
    expected: &Expectations,
    now: UnixTime,
    verifier: &mut dyn Verifier,
) -> Result<(), TokenError> {
    claims.check_issuer(expected)?;
    let candidates = keys.candidates(token)?;
    claims.check(expected, now)?;
    candidates.verify(verifier).map(drop)
}
