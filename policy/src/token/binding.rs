//! Tokens that are bound to a certificate (RFC 8705 §3): what `cnf` says, and whether the peer has that certificate.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

use super::TokenError;

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
    pub(super) fn thumbprint(self, claims: &Map<String, Value>) -> Result<Option<[u8; 32]>, TokenError> {
        match (self, claims.get("cnf")) {
            (Self::Off, _) | (Self::WhenPresent, None) => Ok(None),
            (Self::Required, None) => Err(TokenError::NotBound),
            (_, Some(confirmation)) => read(confirmation).map(Some),
        }
    }
}

/// Reads `cnf`. It may hold the thumbprint of a certificate and nothing else: what else it demands cannot be checked here,
/// and a part of the proof is none.
fn read(confirmation: &Value) -> Result<[u8; 32], TokenError> {
    let members = confirmation.as_object().ok_or(TokenError::ConfirmationInvalid)?;
    let thumbprint = members.get("x5t#S256").filter(|_| members.len() == 1).ok_or(TokenError::ConfirmationUnknown)?;
    let text = thumbprint.as_str().ok_or(TokenError::ThumbprintInvalid)?;
    // 43 digits of base64url without padding, and no stray bits: hexadecimal has 64.
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|_| text.len() == 43);
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(TokenError::ThumbprintInvalid)
}

/// Compares in a time that does not depend on where the two differ.
pub(crate) fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    std::hint::black_box(one.iter().zip(other).fold(0, |found, (a, b)| found | (a ^ b))) == 0
}
