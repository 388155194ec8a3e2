//! The little of Protocol Buffers that one host function needs.

/// Appends a field of type `bytes` or `string`.
pub(crate) fn bytes_field(number: u8, bytes: &[u8], message: &mut Vec<u8>) {
    const LENGTH_DELIMITED: u8 = 2;
    message.push(number << 3 | LENGTH_DELIMITED);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
}

/// Whether the field with number 1 is the boolean `true`; `false` is not written at all. `None` for what is no message of
/// varints and bytes.
pub(crate) fn first_is_true(mut message: &[u8]) -> Option<bool> {
    let mut first = false;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => first = value == 1,
            (_, 0) => {}
            (_, 2) => message = message.get(usize::try_from(value).ok()?..)?,
            _ => return None,
        }
    }
    Some(first)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
