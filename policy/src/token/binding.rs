//! Tokens that are bound to a certificate (RFC 8705 §3): what `cnf` says, and whether the peer has that certificate.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::TokenError;
use crate::certificate::Leaf;

/// Whether tokens have to be bound to the certificate of who sends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Binding {
    /// A token without `cnf` is refused.
    #[default]
    Required,
    /// A token without `cnf` may be sent by anybody.
    WhenPresent,
    /// `cnf` is not looked at.
    Off,
}

impl Binding {
    pub(crate) const ALL: [Self; 3] = [Self::Required, Self::WhenPresent, Self::Off];

    /// The word of the policy.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::WhenPresent => "when_present",
            Self::Off => "off",
        }
    }

    /// The thumbprint of the only certificate that may send a token of these claims; `None` if any may.
    pub(super) fn thumbprint(self, claims: &Map<String, Value>) -> Result<Option<Thumbprint>, TokenError> {
        match (self, claims.get("cnf")) {
            (Self::Off, _) | (Self::WhenPresent, None) => Ok(None),
            (Self::Required, None) => Err(TokenError::NotBound),
            (_, Some(confirmation)) => read(confirmation).map(Some),
        }
    }
}

/// Reads `cnf`. It may hold the thumbprint of a certificate and nothing else: what else it demands cannot be checked here,
/// and a part of the proof is none.
fn read(confirmation: &Value) -> Result<Thumbprint, TokenError> {
    let members = confirmation.as_object().ok_or(TokenError::ConfirmationInvalid)?;
    let thumbprint = members.get("x5t#S256").filter(|_| members.len() == 1).ok_or(TokenError::ConfirmationUnknown)?;
    let text = thumbprint.as_str().ok_or(TokenError::ThumbprintInvalid)?;
    // 43 digits of base64url without padding, and no stray bits: hexadecimal has 64.
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|_| text.len() == 43);
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Thumbprint).ok_or(TokenError::ThumbprintInvalid)
}

/// SHA-256 of the one certificate that may send a token.
///
/// It is compared in one way only, in a time that does not depend on where the two differ: there is no `==` for it, and a
/// test makes sure that none is added.
#[derive(Clone, Copy)]
pub(crate) struct Thumbprint([u8; 32]);

impl From<[u8; 32]> for Thumbprint {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl Thumbprint {
    /// Whether it is that of this certificate.
    pub(crate) fn is_of(&self, leaf: &Leaf) -> bool {
        self.0.ct_eq(leaf.sha256()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::*;

    /// Of the two constants, the inherent one is taken wherever its bound holds.
    struct Compares<T>(PhantomData<T>);

    trait Otherwise {
        const BY_EQ: bool = false;
    }

    impl<T> Otherwise for Compares<T> {}

    impl<T: PartialEq> Compares<T> {
        const BY_EQ: bool = true;
    }

    #[test]
    fn a_thumbprint_is_compared_in_constant_time_or_not_at_all() {
        const { assert!(Compares::<[u8; 32]>::BY_EQ, "the test sees who has `==`") };
        const { assert!(!Compares::<Thumbprint>::BY_EQ, "whoever compares with `==` tells by the time it takes") };
    }
}
