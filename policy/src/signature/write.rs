//! The little DER that has to be written: keys and signatures for a host's library.

use crate::certificate::der;

/// One element around `parts`.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let digits = length.to_be_bytes();
    let leading = digits.iter().take_while(|&&digit| digit == 0).count();
    let digits = digits.get(leading..).unwrap_or_default();
    let mut encoded = Vec::with_capacity(2 + digits.len() + length);
    encoded.push(tag);
    match digits {
        [] => encoded.push(0),
        [short @ 0..0x80] => encoded.push(*short),
        long => {
            encoded.push(0x80 | long.len() as u8);
            encoded.extend_from_slice(long);
        }
    }
    parts.iter().for_each(|part| encoded.extend_from_slice(part));
    encoded
}

/// A big-endian number that is not negative, as INTEGER in its shortest form.
pub(super) fn unsigned(digits: &[u8]) -> Vec<u8> {
    let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
    match digits.get(zeros..).unwrap_or_default() {
        [] => element(der::INTEGER, &[&[0]]),
        digits @ [0x80..=0xff, ..] => element(der::INTEGER, &[&[0], digits]),
        digits => element(der::INTEGER, &[digits]),
    }
}
