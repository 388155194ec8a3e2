//! Object identifiers as dotted text.

use std::fmt::Write as _;

/// The dotted form of an OBJECT IDENTIFIER's contents (X.690 §8.19); `None` if they are not one.
///
/// Arcs of up to 128 bits are read, so that those made from UUIDs (2.25, X.667) are.
pub(crate) fn dotted(contents: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(contents.len() * 3);
    let mut arc: Option<u128> = None;
    for &byte in contents {
        let value = match arc {
            // A leading zero septet is not the shortest form.
            None if byte == 0x80 => return None,
            None => 0,
            Some(value) if value >> (u128::BITS - 7) != 0 => return None,
            Some(value) => value << 7,
        };
        let value = value | u128::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            arc = Some(value);
            continue;
        }
        arc = None;
        // Writing to a string does not fail.
        let _ = if text.is_empty() {
            let root = (value / 40).min(2);
            write!(text, "{root}.{}", value - root * 40)
        } else {
            write!(text, ".{value}")
        };
    }
    (arc.is_none() && !text.is_empty()).then_some(text)
}

/// Whether `text` is the dotted form of some object identifier, in the form that [`dotted`] gives it.
pub(crate) fn is_dotted(text: &str) -> bool {
    let mut arcs = 0;
    for arc in text.split('.') {
        let canonical = arc == "0" || !arc.starts_with('0');
        if !canonical || !arc.bytes().all(|byte| byte.is_ascii_digit()) || arc.parse::<u128>().is_err() {
            return false;
        }
        arcs += 1;
    }
    let root = text.as_bytes().first();
    arcs >= 2 && text.as_bytes().get(1) == Some(&b'.') && matches!(root, Some(b'0'..=b'2'))
}
