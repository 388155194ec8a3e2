//! The one string that stands for an identity in headers, records and answers.

use std::fmt::Write as _;

use super::der::Reader;
use super::distinguished_name;
use super::distinguished_name::DistinguishedName;
use super::names::AlternativeName;
use crate::hex::Hex;
use crate::spiffe::SpiffeId;

/// See [`Leaf::identity`](super::Leaf::identity).
pub(super) fn identity(
    spiffe: Option<&SpiffeId>,
    names: &[AlternativeName],
    subject: &DistinguishedName,
    sha256: &[u8; 32],
) -> String {
    let label = match (spiffe, names) {
        (Some(id), _) => Some(id.as_str().to_owned()),
        (None, []) if !subject.is_empty() => Some(visible("subject:", &subject.to_string())),
        (None, [only]) => name(only),
        _ => None,
    };
    label.unwrap_or_else(|| format!("sha256:{}", Hex(sha256)))
}

/// `None` for the kinds that nobody is known by.
pub(super) fn name(name: &AlternativeName) -> Option<String> {
    match name {
        AlternativeName::Uri(uri) => Some(visible("uri:", uri)),
        AlternativeName::Dns(name) => Some(visible("dns:", name)),
        AlternativeName::Email(address) => Some(visible("email:", address)),
        AlternativeName::Ip(address) => Some(format!("ip:{address}")),
        AlternativeName::Other { oid, value } => {
            let kind = format!("other:{oid}:");
            // A user principal name is a string; what is not one appears as its DER.
            match Reader::new(value).any().and_then(distinguished_name::text) {
                Some(text) if !text.starts_with('#') => Some(visible(&kind, &text)),
                _ => Some(format!("{kind}#{}", Hex(value))),
            }
        }
        _ => None,
    }
}

/// `text` after `kind`, with everything but visible ASCII percent-encoded. `%` itself is too, so that two texts never
/// become one.
fn visible(kind: &str, text: &str) -> String {
    let mut label = String::with_capacity(kind.len() + text.len());
    label.push_str(kind);
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            label.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(label, "%{byte:02X}");
        }
    }
    label
}
