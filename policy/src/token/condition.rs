//! What a member of a role asks of a token.

use super::claim::ClaimTest;
use super::provider::ProviderId;
use super::verified::Token;
use crate::requirement::Truth;

/// Conditions on one token, of which all must hold.
#[derive(Debug)]
pub(crate) struct TokenCondition {
    pub(crate) provider: ProviderId,
    /// Sorted by path.
    pub(crate) claims: Box<[ClaimTest]>,
    /// Sorted.
    pub(crate) scopes: Box<[Box<str>]>,
}

impl TokenCondition {
    /// Whether every token that fulfils these fulfils the others.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        self.provider == other.provider
            && other.claims.iter().all(|claim| self.claims.contains(claim))
            && other.scopes.iter().all(|scope| self.scopes.contains(scope))
    }

    /// Whether a token fulfils all of them, whatever captures stand for. Another provider's token says nothing of what this
    /// one's would.
    pub(crate) fn truth(&self, token: &Token) -> Truth {
        if token.provider() != self.provider {
            return Truth::Unknown;
        }
        let scopes = if self.scopes.is_empty() { Some(true) } else { token.has_scopes(&self.scopes) };
        let claims = self.claims.iter().map(|claim| Truth::from(claim.holds(token.claims().all())));
        Truth::all(claims.chain([Truth::from(scopes)]))
    }
}
