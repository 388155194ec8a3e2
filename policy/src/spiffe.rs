//! SPIFFE IDs (SPIFFE-ID standard §2), in the narrow form that the standard asks issuers for.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_spiffe_only_if_every_rule_holds() {
        let longest_domain = format!("spiffe://{}/a", "d".repeat(255));
        let domain_too_long = format!("spiffe://{}/a", "d".repeat(256));
        let longest = format!("spiffe://td/{}", "a".repeat(2048 - 12));
        let too_long = format!("spiffe://td/{}", "a".repeat(2048 - 11));
        let cases = [
            ("a workload", "spiffe://acme.example/ns/pay/sa/checkout", true),
            ("a trust domain", "spiffe://acme.example", true),
            ("every character of a trust domain", "spiffe://az09.-_/a", true),
            ("every character of a path", "spiffe://td/AZaz09.-_", true),
            ("more dots than two", "spiffe://td/...", true),
            ("a trust domain of 255 bytes", &longest_domain, true),
            ("a trust domain of 256 bytes", &domain_too_long, false),
            ("2048 bytes", &longest, true),
            ("2049 bytes", &too_long, false),
            ("nothing", "", false),
            ("the scheme alone", "spiffe://", false),
            ("no trust domain", "spiffe:///a", false),
            ("another scheme", "https://td/a", false),
            ("scheme in upper case", "SPIFFE://td/a", false),
            ("scheme in mixed case", "Spiffe://td/a", false),
            ("one slash", "spiffe:/td/a", false),
            ("white space in front", " spiffe://td/a", false),
            ("trust domain in upper case", "spiffe://TD/a", false),
            ("a trailing slash", "spiffe://td/a/", false),
            ("a slash as path", "spiffe://td/", false),
            ("an empty segment", "spiffe://td/a//b", false),
            ("a dot segment", "spiffe://td/a/./b", false),
            ("two dots", "spiffe://td/a/../b", false),
            ("two dots at the end", "spiffe://td/a/..", false),
            ("an escaped dot", "spiffe://td/a/%2e%2e/b", false),
            ("an escaped slash", "spiffe://td/a%2fb", false),
            ("an escaped letter", "spiffe://td/%61", false),
            ("an escape in the trust domain", "spiffe://t%64/a", false),
            ("a query", "spiffe://td/a?b", false),
            ("a query after the trust domain", "spiffe://td?b", false),
            ("a fragment", "spiffe://td/a#b", false),
            ("a port", "spiffe://td:443/a", false),
            ("an empty port", "spiffe://td:/a", false),
            ("a user", "spiffe://user@td/a", false),
            ("an IPv6 address", "spiffe://[::1]/a", false),
            ("a backslash", "spiffe://td\\a", false),
            ("a comma", "spiffe://td/a,URI=spiffe://td/admin", false),
            ("a wildcard", "spiffe://td/*", false),
            ("a NUL", "spiffe://td/a\0", false),
            ("beyond ASCII", "spiffe://td/\u{e4}", false),
            ("Cyrillic in the trust domain", "spiffe://\u{430}cme.example/a", false),
        ];
        for (name, text, want) in cases {
            assert_eq!(SpiffeId::parse(text).is_some(), want, "{name}");
        }
    }

    #[test]
    fn an_id_comes_apart_at_its_slashes() {
        let cases: [(&str, &str, &[&str]); 3] = [
            ("spiffe://acme.example/ns/pay", "acme.example", &["ns", "pay"]),
            ("spiffe://acme.example.evil/ns", "acme.example.evil", &["ns"]),
            ("spiffe://acme.example", "acme.example", &[]),
        ];
        for (text, trust_domain, segments) in cases {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!(id.as_str(), text);
            assert_eq!(id.trust_domain(), trust_domain, "{text}");
            assert_eq!(id.segments().collect::<Vec<_>>(), segments, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_the_sum_of_its_parts(text in r"spiffe://[a-zA-Z0-9./_%:@?#-]{0,40}") {
            if let Some(id) = SpiffeId::parse(&text) {
                let path: String = id.segments().flat_map(|segment| ["/", segment]).collect();
                prop_assert_eq!(format!("spiffe://{}{path}", id.trust_domain()), text);
                prop_assert!(id.segments().all(|segment| !matches!(segment, "" | "." | "..")));
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text: String) {
            let _ = SpiffeId::parse(&text);
        }
    }
}
