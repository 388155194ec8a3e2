//! SPIFFE IDs (SPIFFE-ID standard §2).

/// The longest ID that the standard lets anybody make, in bytes (§2.3).
const MAX_ID: usize = 2048;

/// The longest trust domain (§2.1).
const MAX_TRUST_DOMAIN: usize = 255;

/// A valid SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    trust_domain_end: usize,
}

impl SpiffeId {
    /// Takes `text` only if every rule of the standard holds. An ID without a path names a whole trust domain.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_ID {
            return None;
        }
        // The standard has the scheme compared without case as URIs do, and written in lower case. Whoever writes it in
        // another way is told apart here as by those that compare bytes.
        let after_scheme = text.strip_prefix(SCHEME)?;
        let (trust_domain, path) = match after_scheme.split_once('/') {
            Some((trust_domain, path)) => (trust_domain, Some(path)),
            None => (after_scheme, None),
        };
        let valid = is_trust_domain(trust_domain) && path.is_none_or(|path| path.split('/').all(is_segment));
        valid.then(|| Self { text: text.to_owned(), trust_domain_end: SCHEME.len() + trust_domain.len() })
    }

    /// The whole ID, `spiffe://…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain, lower-case.
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.trust_domain_end).unwrap_or_default()
    }

    /// The path's segments, none of them empty; none at all in the ID of a trust domain.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.get(self.trust_domain_end..).unwrap_or_default().split('/').skip(1)
    }
}

const SCHEME: &str = "spiffe://";

/// Whether `text` is a trust domain name (§2.1): no port, no user, nothing percent-encoded, no upper case.
pub(crate) fn is_trust_domain(text: &str) -> bool {
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= MAX_TRUST_DOMAIN && text.bytes().all(allowed)
}

/// Whether `text` is a segment of a path (§2.2); `.` and `..` are not.
pub(crate) fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(text, "" | "." | "..") && text.bytes().all(allowed)
}
