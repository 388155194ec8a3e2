//! Hexadecimal digits.

use std::fmt;

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

impl Hex<'_> {
    /// Appends the digits.
    pub(crate) fn push_to(self, text: &mut String) {
        text.extend(self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(of_digit));
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(2 * self.0.len());
        self.push_to(&mut text);
        f.write_str(&text)
    }
}

fn of_digit(nibble: u8) -> char {
    char::from(nibble + if nibble < 10 { b'0' } else { b'a' - 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_two_digits_each_however_many_there_are() {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        for length in [0, 1, 20, 31, 32, 33, 64, 256] {
            let want: String = bytes[..length].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(Hex(&bytes[..length]).to_string(), want, "{length}");
        }
    }
}
