//! The form of a request: what rules are matched against, or why it is refused before any rule is asked.
//!
//! What two programs could read in two ways is refused here: things that may occur once and occur twice, names that disagree,
//! attempts to reach the gate's own headers.

use crate::decide::Head;
use crate::forwarded::Fields;
use crate::forwarded::is_forwarded_header;
use crate::host::Host;
use crate::path::RequestPath;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::token::credentials;

/// The most header fields that are read.
const MAX_FIELDS: usize = 256;

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
        let mut forbidden = false;
        let mut forwarded = Fields::default();
        let mut text = true;
        for &(name, value) in &head.fields {
            if name.eq_ignore_ascii_case(b"host") {
                duplicated |= host.replace(value).is_some();
            } else if name.eq_ignore_ascii_case(b"connection") {
                forbidden |= value.split(|&byte| byte == b',').any(|option| is_identity_header(option.trim_ascii()));
            } else if name.eq_ignore_ascii_case(b"authorization") {
                duplicated |= credential.replace(value).is_some();
            }
            forwarded.add(name, value);
            text &= str::from_utf8(value).is_ok();
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

/// Whether a server behind the gate could take a header of this name for a word about who asks: the gate's own, or a
/// forwarded certificate. No option of `Connection` may name one, and none arrives in trailers, which a server may join to
/// the header (RFC 9110 §6.5.1).
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

/// A token of RFC 9110 §5.6.2 without small letters. Methods are told apart by case (§9.1), but many programs behind a
/// gate capitalize them: `delete` must not slip past a rule about `DELETE`.
fn is_method(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(allowed)
}
