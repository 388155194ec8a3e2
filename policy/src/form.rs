//! The form of a request: what rules are matched against, or why it is refused before any rule is asked.
//!
//! What two programs could read in two ways is refused here: things that may occur once and occur twice, names that disagree,
//! attempts to reach the gate's own headers.

use std::ops::RangeInclusive;

use crate::ascii;
use crate::decide::Head;
use crate::forwarded::Fields;
use crate::forwarded::is_forwarded_header;
use crate::host::Host;
use crate::path::RequestPath;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::token::credentials;
use crate::token::credentials::is_token_byte;

/// The most header fields that are read.
const MAX_FIELDS: usize = 256;

/// What most names of fields are made of.
const PLAIN_NAME: [RangeInclusive<u8>; 3] = [b'-'..=b'-', b'0'..=b'9', b'a'..=b'z'];

/// What most values of fields are made of: text that is UTF-8 and holds nothing but HTAB that controls anything.
const PLAIN_VALUE: [RangeInclusive<u8>; 2] = [b'\t'..=b'\t', b' '..=b'~'];

/// What the gate's own headers begin with, in lower case.
const OWN_PREFIX: &[u8] = b"x-portcullis-";

/// A request that rules can be matched against.
#[derive(Debug)]
pub(crate) struct Form<'r> {
    pub(crate) method: &'r str,
    pub(crate) path: RequestPath<'r>,
    pub(crate) host: Option<Host<'r>>,
    /// There is a header that carries a forwarded certificate, or seems to.
    pub(crate) forwarded: bool,
}

impl<'r> Form<'r> {
    /// Reads the head of a request, in the order of the refusals that are part of the contract.
    ///
    /// # Errors
    ///
    /// The [`Reason`] to refuse it with.
    pub(crate) fn read(head: &Head<'r>, policy: &Policy) -> Result<Self, Reason> {
        if head.fields.len() > MAX_FIELDS {
            return Err(Reason::TooManyHeaders);
        }
        let mut host = None;
        let mut credential = None;
        let mut duplicated = head.duplicated;
        let mut malformed = false;
        let mut forbidden = false;
        let mut forwarded = Fields::default();
        let mut text = true;
        for &(name, value) in &head.fields {
            if name.eq_ignore_ascii_case(b"host") {
                duplicated |= host.replace(value).is_some();
            } else if name.eq_ignore_ascii_case(b"connection") {
                forbidden |= value.split(|&byte| byte == b',').any(|option| must_stay(option.trim_ascii()));
            } else if name.eq_ignore_ascii_case(b"authorization") {
                duplicated |= credential.replace(value).is_some();
            }
            forwarded.add(name, value);
            malformed |= !is_name(name);
            if !ascii::is_made_of(value, &PLAIN_VALUE) {
                malformed |= value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
                text &= str::from_utf8(value).is_ok();
            }
        }
        if malformed {
            return Err(Reason::HeaderMalformed);
        }
        if duplicated || forwarded.duplicated {
            return Err(Reason::HeaderDuplicated);
        }
        let method = head.method.filter(|method| is_method(method)).and_then(|method| str::from_utf8(method).ok());
        let method = method.ok_or(Reason::MethodInvalid)?;
        let path = RequestPath::parse(head.path.ok_or(Reason::PathMissing)?, policy.normalization())?;
        let host = match (head.authority, host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Reason::HostAmbiguous);
            }
            (authority, host) => authority.or(host).map(Host::parse).transpose()?,
        };
        if forbidden {
            return Err(Reason::HeaderForbidden);
        }
        if forwarded.is_ambiguous() {
            return Err(Reason::ForwardedAmbiguous);
        }
        if !text {
            return Err(Reason::HeaderNotUtf8);
        }
        // Whoever reads the other ones takes the request for somebody else's.
        if policy.takes_tokens() {
            let in_query = credentials::in_query(head.path.unwrap_or_default());
            if in_query + usize::from(credential.is_some()) > 1 {
                return Err(Reason::CredentialsAmbiguous);
            }
        }
        Ok(Self { method, path, host, forwarded: !forwarded.is_empty() })
    }
}

/// Whether no option of `Connection` may be this name: a hop that honours it takes the header of that name away (RFC 9110
/// §7.6.1), and who asks, or whom, is not what arrives. What rules say of other headers holds of the request as it came.
fn must_stay(name: &[u8]) -> bool {
    let decisive = [&b"authorization"[..], b"host", b"proxy-authorization"];
    is_identity_header(name) || decisive.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a server behind the gate could take a header of this name for a word about who asks: the gate's own, or a
/// forwarded certificate. None arrives in trailers, which a server may join to the header (RFC 9110 §6.5.1).
pub fn is_identity_header(name: &[u8]) -> bool {
    is_own_header(name) || is_forwarded_header(name)
}

/// Whether a server behind the gate could take a header of this name for one of the gate's own.
///
/// Many servers fold `-` and `_`, and some every character that is neither letter nor digit, into one.
pub fn is_own_header(name: &[u8]) -> bool {
    folds_to(name, OWN_PREFIX)
}

/// Whether a name begins with `prefix` once everything in it that is neither letter nor digit is `-`.
pub(crate) fn folds_to(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name.iter().zip(prefix).all(|(byte, own)| match own {
            b'-' => !byte.is_ascii_alphanumeric(),
            _ => byte.eq_ignore_ascii_case(own),
        })
}

/// The name of a field: a token (RFC 9110 §5.1, §5.6.2).
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && (ascii::is_made_of(name, &PLAIN_NAME) || name.iter().copied().all(is_token_byte))
}

/// A token of RFC 9110 §5.6.2 without small letters. Methods are told apart by case (§9.1), but many programs behind a
/// gate capitalize them: `delete` must not slip past a rule about `DELETE`.
fn is_method(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| is_token_byte(*byte) && !byte.is_ascii_lowercase();
    !bytes.is_empty() && bytes.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Refusal = Option<Reason>;

    /// Why a request with these fields is refused before any rule is asked.
    fn refusal(fields: &[(&[u8], &[u8])]) -> Refusal {
        let policy = Policy::from_json(br#"{"version": 1, "rules": []}"#).unwrap();
        let head = Head { method: Some(b"GET"), path: Some(b"/"), fields: fields.to_vec(), ..Head::default() };
        Form::read(&head, &policy).err()
    }

    #[test]
    fn connection_does_not_take_away_who_asks_or_whom() {
        let cases: &[(&str, &[u8], Refusal)] = &[
            ("nothing", b"", None),
            ("close", b"close", None),
            ("another header", b"keep-alive, x-other", None),
            ("a header that begins alike", b"hosts, authorization-info", None),
            ("the token", b"authorization", Some(Reason::HeaderForbidden)),
            ("the token, after another option", b"close,\tAuthorization ,x", Some(Reason::HeaderForbidden)),
            ("a proxy's credentials", b"Proxy-Authorization", Some(Reason::HeaderForbidden)),
            ("the host", b"close, host", Some(Reason::HeaderForbidden)),
            ("one of the gate's own", b"X_Portcullis-Roles", Some(Reason::HeaderForbidden)),
            ("a forwarded certificate", b"client-cert", Some(Reason::HeaderForbidden)),
        ];
        for (name, options, want) in cases {
            assert_eq!(refusal(&[(b"Connection", options)]), *want, "{name}");
        }
    }

    #[test]
    fn names_are_tokens_and_values_hold_no_control_characters() {
        let long = [&[b'a'; 64][..], b"\x7f"].concat();
        let cases: &[(&str, &[u8], &[u8], Refusal)] = &[
            ("text", b"x-a", b"a b; c=\"d\"", None),
            ("every character of a token", b"!#$%&'*+-.^_`|~09azAZ", b"1", None),
            ("an empty value", b"x-a", b"", None),
            ("a tab", b"x-a", b"a\tb", None),
            ("UTF-8", b"x-a", "b\u{fc}cher".as_bytes(), None),
            ("Latin-1", b"x-a", b"b\xfccher", Some(Reason::HeaderNotUtf8)),
            ("an empty name", b"", b"1", Some(Reason::HeaderMalformed)),
            ("a blank in the name", b"x a", b"1", Some(Reason::HeaderMalformed)),
            ("a blank behind the name", b"host ", b"1", Some(Reason::HeaderMalformed)),
            ("a colon in the name", b"x:a", b"1", Some(Reason::HeaderMalformed)),
            ("a pseudo-header among the fields", b":path", b"/b", Some(Reason::HeaderMalformed)),
            ("a slash in the name", b"x/a", b"1", Some(Reason::HeaderMalformed)),
            ("a line feed in the name", b"x-a\nhost", b"1", Some(Reason::HeaderMalformed)),
            ("a NUL in the name", b"x-a\0", b"1", Some(Reason::HeaderMalformed)),
            ("UTF-8 in the name", "x-\u{fc}".as_bytes(), b"1", Some(Reason::HeaderMalformed)),
            ("a NUL", b"x-a", b"a\0b", Some(Reason::HeaderMalformed)),
            ("a line feed", b"x-a", b"a\nhost: b", Some(Reason::HeaderMalformed)),
            ("a carriage return", b"x-a", b"a\r", Some(Reason::HeaderMalformed)),
            ("a folded line", b"x-a", b"a\r\n b", Some(Reason::HeaderMalformed)),
            ("delete", b"x-a", b"a\x7f", Some(Reason::HeaderMalformed)),
            ("delete at the end of much text", b"x-a", &long, Some(Reason::HeaderMalformed)),
            ("an escape beside UTF-8", b"x-a", "\u{fc}\u{1b}[0m".as_bytes(), Some(Reason::HeaderMalformed)),
            ("a NUL beside Latin-1", b"x-a", b"\xfc\0", Some(Reason::HeaderMalformed)),
        ];
        for (name, field, value, want) in cases {
            assert_eq!(refusal(&[(field, value)]), *want, "{name}");
        }
    }
}
