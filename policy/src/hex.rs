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
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        // A hash at a time: filters write one for each refusal.
        for bytes in self.0.chunks(32) {
            let mut text = [[0; 2]; 32];
            for (pair, byte) in text.iter_mut().zip(bytes) {
                *pair = [digit(byte >> 4), digit(byte & 0xf)];
            }
            let written = text.as_flattened().get(..2 * bytes.len()).unwrap_or_default();
            f.write_str(str::from_utf8(written).unwrap_or_default())?;
        }
        Ok(())
    }
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
