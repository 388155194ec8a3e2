//! Whether a text is a distinguished name in the form that TLS libraries write (RFC 2253, RFC 4514): to compare, never to
//! learn a name from.

use super::distinguished_name::Attribute;
use super::distinguished_name::DistinguishedName;
use crate::hex;

/// Names of attribute types that TLS libraries write, beside those that a policy knows.
const NAMES: &[(&str, &str)] = &[
    ("SN", "2.5.4.4"),
    ("surname", "2.5.4.4"),
    ("title", "2.5.4.12"),
    ("description", "2.5.4.13"),
    ("businessCategory", "2.5.4.15"),
    ("postalCode", "2.5.4.17"),
    ("name", "2.5.4.41"),
    ("GN", "2.5.4.42"),
    ("givenName", "2.5.4.42"),
    ("initials", "2.5.4.43"),
    ("generationQualifier", "2.5.4.44"),
    ("dnQualifier", "2.5.4.46"),
    ("pseudonym", "2.5.4.65"),
    ("organizationIdentifier", "2.5.4.97"),
];

impl DistinguishedName {
    /// Whether `text` is this name: the same attributes in the same groups, the last group first. A type by a name that is
    /// not known here does not match.
    pub(crate) fn is_written(&self, text: &str) -> bool {
        let mut rest = text;
        for group in self.attributes().chunk_by(|one, other| one.group() == other.group()).rev() {
            for (position, attribute) in group.iter().enumerate() {
                let separator = if position > 0 { '+' } else { ',' };
                if rest.len() < text.len() {
                    let Some(next) = rest.strip_prefix(separator) else { return false };
                    rest = next;
                }
                let Some(after) = attribute.strip_from(rest) else { return false };
                rest = after;
            }
        }
        rest.is_empty()
    }
}

impl Attribute {
    /// What follows this attribute in `text`; `None` if the text does not begin with it.
    fn strip_from<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (name, value) = text.split_once('=')?;
        if written_oid(name)? != self.oid() {
            return None;
        }
        // The DER in hexadecimal digits: what a library does for types and strings that it does not know.
        if let Some(digits) = value.strip_prefix('#') {
            let (digits, rest) = digits.split_at_checked(2 * self.encoded().len())?;
            let (pairs, _) = digits.as_bytes().as_chunks::<2>();
            let same = pairs
                .iter()
                .zip(self.encoded())
                .all(|(&[high, low], byte)| hex::digit(high).zip(hex::digit(low)) == Some((byte >> 4, byte & 0xf)));
            return same.then_some(rest);
        }
        let mut wanted = self.text()?.bytes();
        let mut bytes = value.bytes();
        let mut used = 0;
        loop {
            let (byte, length) = match bytes.next() {
                None | Some(b',' | b'+') => break,
                Some(b'\\') => {
                    let first = bytes.next()?;
                    match hex::digit(first) {
                        None => (first, 2),
                        Some(high) => (high << 4 | hex::digit(bytes.next()?)?, 3),
                    }
                }
                Some(byte) => (byte, 1),
            };
            if wanted.next() != Some(byte) {
                return None;
            }
            used += length;
        }
        if wanted.next().is_some() { None } else { value.get(used..) }
    }
}

/// The dotted object identifier of an attribute type as it is written in a name.
fn written_oid(name: &str) -> Option<&str> {
    let known = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, oid)| *oid).or_else(|| DistinguishedName::written_oid(name))
}
