//! A reader of DER (X.690) that takes nothing else: one-byte tags, definite lengths in their shortest form.
//!
//! Written here and not taken from a parser of certificates, because what is accepted must not be wider than what the
//! proxy's TLS library accepted before us; the tests compare it with `x509-parser`.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The tag `[number]`, as a context-specific one of a primitive type.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The tag `[number]`, as a context-specific one around other elements.
pub(crate) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// One element: tag, length, contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) contents: &'a [u8],
    /// The whole of it, tag and length included.
    pub(crate) encoded: &'a [u8],
}

impl<'a> Element<'a> {
    /// Reads what is inside.
    pub(crate) fn reader(self) -> Reader<'a> {
        Reader::new(self.contents)
    }
}

/// Takes elements from the front of some bytes. `None` everywhere means that the bytes are not what was asked for; the
/// reader is then of no further use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Takes the next element, whatever its tag.
    pub(crate) fn any(&mut self) -> Option<Element<'a>> {
        let start = self.rest;
        let (&tag, after_tag) = start.split_first()?;
        // Tag numbers from 31 on take more bytes (X.690 §8.1.2.4); no certificate has one.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, header, body) = length(after_tag)?;
        let (contents, rest) = body.split_at_checked(length)?;
        let (encoded, _) = start.split_at_checked(1 + header + length)?;
        self.rest = rest;
        Some(Element { tag, contents, encoded })
    }

    /// Takes the next element, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        self.any().filter(|element| element.tag == tag)
    }

    /// Takes the next element if it has this tag: `Some(None)` if it has another or there is none.
    pub(crate) fn take_if(&mut self, tag: u8) -> Option<Option<Element<'a>>> {
        if self.rest.first() == Some(&tag) { self.take(tag).map(Some) } else { Some(None) }
    }

    /// Ends the reading; `None` if something is left.
    pub(crate) fn finish(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

/// The contents of the one element, with this tag, that `bytes` are.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    let mut reader = Reader::new(bytes);
    let element = reader.take(tag)?;
    reader.finish()?;
    Some(element)
}

/// A length (X.690 §8.1.3, §10.1), the number of bytes that it took, and what comes after.
fn length(bytes: &[u8]) -> Option<(usize, usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((usize::from(first), 1, rest));
    }
    // Four bytes are more than the cap on a certificate's size; none at all is the indefinite form of BER.
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(count)?;
    let value = digits.iter().fold(0_u32, |value, &digit| (value << 8) | u32::from(digit));
    let shortest = value >= 0x80 && digits.first() != Some(&0);
    shortest.then_some((usize::try_from(value).ok()?, 1 + count, rest))
}

/// A BOOLEAN's value: DER has one form of each (X.690 §11.1).
pub(crate) fn boolean(contents: &[u8]) -> Option<bool> {
    match contents {
        [0x00] => Some(false),
        [0xff] => Some(true),
        _ => None,
    }
}

/// Whether these are the contents of an INTEGER in its shortest form (X.690 §8.3.2).
pub(crate) fn is_integer(contents: &[u8]) -> bool {
    match contents {
        [] => false,
        [_] => true,
        [0x00, second, ..] => second & 0x80 != 0,
        [0xff, second, ..] => second & 0x80 == 0,
        _ => true,
    }
}

/// A BIT STRING's bits, and how many of the last byte do not count; those must be zero (X.690 §11.2).
pub(crate) fn bit_string(contents: &[u8]) -> Option<(&[u8], u8)> {
    let (&unused, bits) = contents.split_first()?;
    let padding = match bits.last() {
        Some(last) if unused < 8 => last & ((1 << unused) - 1),
        None if unused == 0 => 0,
        _ => return None,
    };
    (padding == 0).then_some((bits, unused))
}
