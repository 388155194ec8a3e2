//! The host of a request: lower case, without port and trailing dot.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::reason::Reason;

/// The longest name that DNS has, in its textual form (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// A host that a rule can be matched against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a>(Cow<'a, str>);

impl<'a> Host<'a> {
    /// Parses an `:authority` or `Host` value: a name, an IPv4 address or an IPv6 address in brackets, with or without a port.
    ///
    /// Letters, digits, `-`, `_` and `.` make a name. RFC 3986 has more; no host on a network needs them, and programs differ
    /// on what they make of them.
    ///
    /// # Errors
    ///
    /// [`Reason::HostInvalid`].
    pub fn parse(authority: &'a [u8]) -> Result<Self, Reason> {
        parse(authority).map(Self).ok_or(Reason::HostInvalid)
    }

    /// The host in lower case. An IPv6 address stands in brackets, in its shortest form (RFC 5952).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse(authority: &[u8]) -> Option<Cow<'_, str>> {
    let authority = str::from_utf8(authority).ok()?;
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        if !port.is_empty() {
            is_port(port.strip_prefix(':')?).then_some(())?;
        }
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(Cow::Owned(format!("[{address}]")));
    }
    let name = match authority.split_once(':') {
        Some((name, port)) => is_port(port).then_some(name)?,
        None => authority,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let valid = name.len() <= MAX_NAME && name.split('.').all(is_label);
    valid.then(|| {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        }
    })
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !label.is_empty() && label.bytes().all(allowed)
}

/// Digits only: the parser of integers would take a `+`.
fn is_port(port: &str) -> bool {
    port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}
