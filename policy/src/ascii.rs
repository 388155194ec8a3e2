//! Which bytes a text is made of, asked of eight at a time: one by one costs more than most of what is done with the text.

use std::ops::RangeInclusive;

/// The highest bit of each byte of a word.
const TOPS: u64 = each(0x80);

/// Whether every byte of a text is in one of the ranges, which are of ASCII.
pub(crate) fn is_made_of<const N: usize>(text: &[u8], ranges: &[RangeInclusive<u8>; N]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    // To the end, whatever it is: there is no branch to be guessed then.
    let good = words.iter().fold(TOPS, |good, word| good & found(u64::from_ne_bytes(*word), ranges));
    good == TOPS && rest.iter().all(|byte| ranges.iter().any(|range| range.contains(byte)))
}

/// The highest bit of each byte that is in one of the ranges.
fn found<const N: usize>(word: u64, ranges: &[RangeInclusive<u8>; N]) -> u64 {
    let low = word & !TOPS;
    // No sum is above 255, so nothing is carried from one byte to the next.
    let at_least = |byte: u8| low.wrapping_add(each(0x80_u8.wrapping_sub(byte)));
    let within = |range: &RangeInclusive<u8>| at_least(*range.start()) & !at_least(range.end().wrapping_add(1));
    ranges.iter().fold(0, |found, range| found | within(range)) & !word & TOPS
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_wherever_it_is() {
        let ranges = [b'\0'..=b'\0', b'+'..=b'+', b'-'..=b'9', b'A'..=b'Z', b'~'..=b'\x7f'];
        for length in 1..20 {
            for position in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'A'; length];
                    text[position] = byte;
                    let expected = ranges.iter().any(|range| range.contains(&byte));
                    assert_eq!(is_made_of(&text, &ranges), expected, "{byte:#x} at {position} of {length}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_made_of_anything_and_only_nothing_of_nothing() {
        assert!(is_made_of(b"", &[b'a'..=b'z']));
        assert!(is_made_of(b"", &[]));
        assert!(!is_made_of(b"a", &[]));
        assert!(!is_made_of(b"abcdefgh", &[]));
    }
}
