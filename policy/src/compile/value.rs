//! Text of a document to values: names, times, hashes, attributes.

use crate::certificate::DistinguishedName;
use crate::error::PolicyProblem;
use crate::hex;
use crate::roles::condition::Attribute;
use crate::time::UnixTime;

/// The longest name of a role, rule or test, in bytes.
const MAX_NAME: usize = 128;

/// Takes a name that is safe in headers and logs.
pub(super) fn name(text: &str) -> Result<&str, PolicyProblem> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    let valid = text.len() <= MAX_NAME
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if valid { Ok(text) } else { Err(PolicyProblem::BadName { name: shown(text), limit: MAX_NAME }) }
}

/// Text for a message: escaped and shortened.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_NAME).flat_map(char::escape_default).collect();
    if text.chars().nth(MAX_NAME).is_some() {
        shown.push('…');
    }
    shown
}

pub(super) fn bad(text: &str, expected: &'static str) -> PolicyProblem {
    PolicyProblem::BadValue { value: shown(text), expected }
}

/// Takes an instant (RFC 3339) without a fraction of a second: certificates have none either, and either way of rounding
/// would be wrong for somebody.
pub(super) fn time(text: &str) -> Result<UnixTime, PolicyProblem> {
    UnixTime::parse_whole(text).ok_or_else(|| bad(text, "a time in whole seconds such as `2026-11-01T00:00:00Z`"))
}

/// Takes a length of time in seconds: `90s`, `15m`, `24h`, `30d`.
pub(super) fn duration(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    // The parser of integers would take a sign.
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if digits { number.parse::<i64>().ok()?.checked_mul(seconds) } else { None }
}

/// Takes hexadecimal bytes, with or without colons between them.
pub(super) fn bytes(text: &str) -> Result<Box<[u8]>, PolicyProblem> {
    let refusal = || bad(text, "hexadecimal, two digits a byte");
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut digits = text.bytes();
    let mut first = digits.next();
    while let Some(high) = first {
        let low = digits.next().and_then(hex::digit).ok_or_else(refusal)?;
        bytes.push(hex::digit(high).ok_or_else(refusal)? << 4 | low);
        first = digits.next();
        if first == Some(b':') {
            first = digits.next();
            if first.is_none() {
                return Err(refusal());
            }
        }
    }
    if bytes.is_empty() { Err(refusal()) } else { Ok(bytes.into()) }
}

/// Takes a SHA-256 hash.
pub(super) fn sha256(text: &str) -> Result<Box<[u8; 32]>, PolicyProblem> {
    bytes(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| bad(text, "the 64 hexadecimal digits of a SHA-256"))
}

/// Takes an attribute of a distinguished name.
pub(super) fn attribute(name: &str, value: &str) -> Result<Attribute, PolicyProblem> {
    let Some(oid) = DistinguishedName::attribute_oid(name) else {
        let known = "`cn`, `o`, `ou`, `c`, `l`, `st`, `street`, `dc`, `uid`, `serial_number`, `email` and dotted object identifiers";
        return Err(PolicyProblem::UnknownWord { name: shown(name), known });
    };
    Ok(Attribute { name: name.into(), oid: oid.into(), value: value.into() })
}
