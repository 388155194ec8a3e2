//! The host of a request: lower case, without port and trailing dot.

use crate::reason::Reason;

/// A host that a rule can be matched against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// Parses an `:authority` or `Host` value.
    ///
    /// # Errors
    ///
    /// The [`Reason`] to refuse the request with.
    pub fn parse(authority: &[u8]) -> Result<Self, Reason> {
        let _ = authority;
        Err(Reason::HostInvalid)
    }

    /// The host in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
