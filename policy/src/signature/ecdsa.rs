//! The two forms of an ECDSA signature: numbers of a fixed size (RFC 7518 §3.4) and DER (RFC 3279 §2.2.3).

use super::write;
use crate::certificate::der;

/// From the fixed form to DER.
pub(super) fn to_der(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at_checked(signature.len() / 2).unwrap_or_default();
    write::element(der::SEQUENCE, &[&write::unsigned(r), &write::unsigned(s)])
}

/// From DER to the fixed form, each number in `size` bytes. `None` if it is not exactly two numbers that fit.
pub(super) fn from_der(signature: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut numbers = der::only(signature, der::SEQUENCE)?.reader();
    let mut fixed = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let number = unsigned(numbers.take(der::INTEGER)?.contents)?;
        fixed.resize(fixed.len() + size.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
    }
    numbers.finish()?;
    Some(fixed)
}

/// The digits of an INTEGER that is not negative and has its shortest form.
pub(super) fn unsigned(contents: &[u8]) -> Option<&[u8]> {
    let negative = contents.first().is_some_and(|first| first & 0x80 != 0);
    (der::is_integer(contents) && !negative).then(|| contents.strip_prefix(&[0]).unwrap_or(contents))
}
