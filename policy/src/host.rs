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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_has_one_form_or_none() {
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        let too_long = format!("{longest}d");
        let cases: &[(&str, &[u8], Option<&str>)] = &[
            ("a name", b"orders.acme.example", Some("orders.acme.example")),
            ("upper case", b"Orders.ACME.example", Some("orders.acme.example")),
            ("a trailing dot", b"orders.acme.example.", Some("orders.acme.example")),
            ("a port", b"orders.acme.example:8443", Some("orders.acme.example")),
            ("the highest port", b"a:65535", Some("a")),
            ("a trailing dot and a port", b"a.example.:443", Some("a.example")),
            ("an underscore", b"a_b.example", Some("a_b.example")),
            ("punycode", b"xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("an IPv4 address", b"10.0.0.7:80", Some("10.0.0.7")),
            ("an IPv6 address", b"[::1]", Some("[::1]")),
            ("an IPv6 address with a port", b"[2001:DB8::1]:8443", Some("[2001:db8::1]")),
            ("an IPv6 address written at length", b"[0:0:0:0:0:0:0:1]", Some("[::1]")),
            ("253 bytes", longest.as_bytes(), Some(&longest)),
            ("254 bytes", too_long.as_bytes(), None),
            ("nothing", b"", None),
            ("only a dot", b".", None),
            ("only a port", b":443", None),
            ("two trailing dots", b"a.example..", None),
            ("a leading dot", b".a.example", None),
            ("an empty label", b"a..example", None),
            ("an empty port", b"a.example:", None),
            ("a port out of range", b"a.example:65536", None),
            ("a port with a sign", b"a.example:+443", None),
            ("a port that is a name", b"a.example:http", None),
            ("two ports", b"a.example:80:443", None),
            ("a user", b"admin@a.example", None),
            ("a user with a password", b"admin:x@a.example", None),
            ("a path", b"a.example/admin", None),
            ("a query", b"a.example?x", None),
            ("a fragment", b"a.example#x", None),
            ("a backslash", b"a.example\\x", None),
            ("an escape", b"a%2eexample", None),
            ("a space", b"a.example ", None),
            ("two hosts", b"a.example,b.example", None),
            ("a wildcard", b"*.example", None),
            ("a NUL", b"a.example\0", None),
            ("a line feed", b"a.example\n", None),
            ("beyond ASCII", "b\u{fc}cher.example".as_bytes(), None),
            ("not UTF-8", b"a\xff", None),
            ("an IPv6 address without brackets", b"::1", None),
            ("a bracket that does not end", b"[::1", None),
            ("a zone", b"[fe80::1%25eth0]", None),
            ("something after the bracket", b"[::1]x", None),
            ("a name in brackets", b"[a.example]", None),
        ];
        for &(name, authority, want) in cases {
            let host = Host::parse(authority);
            assert_eq!(host.as_ref().map(Host::as_str).ok(), want, "{name}");
            assert_eq!(host.err(), want.is_none().then_some(Reason::HostInvalid), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_host_that_is_parsed_again_stays_the_same(authority in r"[a-zA-Z0-9.:\[\]_-]{0,30}") {
            if let Ok(host) = Host::parse(authority.as_bytes()) {
                prop_assert_eq!(Host::parse(host.as_str().as_bytes()), Ok(host.clone()));
                prop_assert!(!host.as_str().bytes().any(|byte| byte.is_ascii_uppercase()));
                prop_assert!(!host.as_str().ends_with('.'));
            }
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(authority: Vec<u8>) {
            let _ = Host::parse(&authority);
        }
    }
}
