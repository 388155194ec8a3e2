//! Bearer tokens: compact JWS (RFC 7515) and the JWT claims in them (RFC 7519), read as RFC 8725 advises.
//!
//! Cheap checks come first, of registered claims as well, which can only refuse a token then; the signature comes last of what
//! does not need trust, and every other claim after it. The algorithm belongs to the key, never to the token. Absent: fetching
//! of keys, the clock (`now` is an argument), symmetric keys, encryption.

pub(crate) mod binding;
pub(crate) mod claim;
mod claims;
pub(crate) mod condition;
pub(crate) mod credentials;
pub(crate) mod json;
mod jws;
mod key;
pub(crate) mod provider;
pub(crate) mod scopes;
mod verified;

pub use claims::Claims;
pub use claims::Expectations;
pub use claims::RegisteredClaims;
pub use jws::Jws;
pub use key::Key;
pub use key::KeyProblem;
pub use key::KeySet;
pub use key::KeySetError;
pub use provider::verify;
pub use verified::Bearer;
pub use verified::Token;

pub(crate) use key::MAX_CANDIDATES;

use crate::reason::Reason;
pub use crate::signature::Algorithm;

/// Why a token is not good. The codes are an interface: they are never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[error("{}", self.code())]
pub enum TokenError {
    /// `alg` is one that the gate does not speak, or that its configuration leaves out; `none` and HMAC among them.
    AlgorithmNotAllowed,
    /// `alg` is not the one that belongs to the key.
    AlgorithmMismatch,
    /// `aud` does not hold the expected audience.
    AudienceMismatch,
    /// `aud` is missing.
    AudienceMissing,
    /// The token is bound to another certificate than the peer's (RFC 8705 §3).
    CertificateMismatch,
    /// The token is bound to a certificate, and the peer has none.
    CertificateMissing,
    /// The payload is not a JSON object, holds a name twice, or a registered claim has the wrong type.
    ClaimsInvalid,
    /// `cnf` is not a JSON object.
    ConfirmationInvalid,
    /// `cnf` lacks the thumbprint of a certificate, or demands something else as well.
    ConfirmationUnknown,
    /// The header has `crit`: an extension that must be understood and is not.
    CriticalHeader,
    /// `exp` has passed.
    Expired,
    /// `exp` is missing.
    ExpiryMissing,
    /// The header is not a JSON object, holds a name twice, or a parameter has the wrong type.
    HeaderInvalid,
    /// `iss` is not the expected issuer.
    IssuerMismatch,
    /// `iss` is missing.
    IssuerMissing,
    /// No key goes with `kid`.
    KeyUnknown,
    /// Not three non-empty parts of unpadded base64url.
    Malformed,
    /// A token in a token, or an encrypted one.
    Nested,
    /// `cnf` is missing: the token is not bound to a certificate, and has to be.
    NotBound,
    /// `nbf` has not come.
    NotYetValid,
    /// The signature is not the key's.
    SignatureInvalid,
    /// `x5t#S256` is not the base64url of a SHA-256, without padding.
    ThumbprintInvalid,
    /// Longer than the gate reads.
    TooLarge,
}

impl TokenError {
    /// The stable code, `snake_case`.
    pub const fn code(self) -> &'static str {
        self.reason().code()
    }

    /// What a request that carries the token is refused with.
    pub const fn reason(self) -> Reason {
        match self {
            Self::AlgorithmNotAllowed => Reason::TokenAlgorithmNotAllowed,
            Self::AlgorithmMismatch => Reason::TokenAlgorithmMismatch,
            Self::AudienceMismatch => Reason::TokenAudienceMismatch,
            Self::AudienceMissing => Reason::TokenAudienceMissing,
            Self::CertificateMismatch => Reason::TokenCertificateMismatch,
            Self::CertificateMissing => Reason::TokenCertificateMissing,
            Self::ClaimsInvalid => Reason::TokenClaimsInvalid,
            Self::ConfirmationInvalid => Reason::TokenConfirmationInvalid,
            Self::ConfirmationUnknown => Reason::TokenConfirmationUnknown,
            Self::CriticalHeader => Reason::TokenCriticalHeader,
            Self::Expired => Reason::TokenExpired,
            Self::ExpiryMissing => Reason::TokenExpiryMissing,
            Self::HeaderInvalid => Reason::TokenHeaderInvalid,
            Self::IssuerMismatch => Reason::TokenIssuerMismatch,
            Self::IssuerMissing => Reason::TokenIssuerMissing,
            Self::KeyUnknown => Reason::TokenKeyUnknown,
            Self::Malformed => Reason::TokenMalformed,
            Self::Nested => Reason::TokenNested,
            Self::NotBound => Reason::TokenNotBound,
            Self::NotYetValid => Reason::TokenNotYetValid,
            Self::SignatureInvalid => Reason::TokenSignatureInvalid,
            Self::ThumbprintInvalid => Reason::TokenThumbprintInvalid,
            Self::TooLarge => Reason::TokenTooLarge,
        }
    }
}

#[cfg(test)]
mod tests;
