//! Hexadecimal digits.

use std::fmt;
use std::fmt::Write as _;

/// The value of one digit, of either case.
pub(crate) fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Bytes that display as lower-case digits, two each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 0xf] {
                f.write_char(char::from_digit(nibble.into(), 16).unwrap_or('0'))?;
            }
        }
        Ok(())
    }
}
