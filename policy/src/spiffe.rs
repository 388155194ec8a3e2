//! SPIFFE IDs (SPIFFE-ID standard §2).

/// A valid SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Takes `text` only if every rule of the standard holds.
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        None
    }

    /// The whole ID, `spiffe://…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain, lower-case.
    pub fn trust_domain(&self) -> &str {
        ""
    }

    /// The path's segments, none of them empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(3)
    }
}
