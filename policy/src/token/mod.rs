//! Bearer tokens: compact JWS (RFC 7515) and the JWT claims in them (RFC 7519), read as RFC 8725 advises.
//!
//! Cheap checks come first, the signature last of what does not need trust, claims only after it. The algorithm
//! belongs to the key, never to the token. Absent: fetching of keys, the clock (`now` is an argument), symmetric keys,
//! encryption.

mod claims;
mod json;
mod jws;
mod key;

pub use claims::Claims;
pub use claims::Expectations;
pub use jws::Jws;
pub use key::Key;
pub use key::KeySet;
pub use key::KeySetError;

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
    /// The payload is not a JSON object, holds a name twice, or a registered claim has the wrong type.
    ClaimsInvalid,
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
    /// `nbf` has not come.
    NotYetValid,
    /// The signature is not the key's.
    SignatureInvalid,
    /// Longer than the gate reads.
    TooLarge,
}

impl TokenError {
    /// The stable code, `snake_case`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::AlgorithmNotAllowed => "token_algorithm_not_allowed",
            Self::AlgorithmMismatch => "token_algorithm_mismatch",
            Self::AudienceMismatch => "token_audience_mismatch",
            Self::AudienceMissing => "token_audience_missing",
            Self::ClaimsInvalid => "token_claims_invalid",
            Self::CriticalHeader => "token_critical_header",
            Self::Expired => "token_expired",
            Self::ExpiryMissing => "token_expiry_missing",
            Self::HeaderInvalid => "token_header_invalid",
            Self::IssuerMismatch => "token_issuer_mismatch",
            Self::IssuerMissing => "token_issuer_missing",
            Self::KeyUnknown => "token_key_unknown",
            Self::Malformed => "token_malformed",
            Self::Nested => "token_nested",
            Self::NotYetValid => "token_not_yet_valid",
            Self::SignatureInvalid => "token_signature_invalid",
            Self::TooLarge => "token_too_large",
        }
    }
}

#[cfg(test)]
mod tests;
