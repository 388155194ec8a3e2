//! `Client-Cert` and `Client-Cert-Chain` (RFC 9440): structured fields (RFC 9651) of byte sequences, read strictly.
//!
//! What RFC 9651 permits and RFC 9440 has no use for is malformed: parameters, white space inside, base64 in any but its
//! canonical spelling (RFC 9651 §4.2.7 leaves that to the reader).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::MAX_ELEMENTS;
use super::Malformed;

/// The DER in a `Client-Cert` field: an Item that is a Byte Sequence (RFC 9440 §2.2).
pub(super) fn parse(text: &str) -> Result<Vec<u8>, Malformed> {
    bytes(text.trim_matches(' '))
}

/// Checks a `Client-Cert-Chain` field: a List of Byte Sequences, at least one (RFC 9440 §2.3). Nothing is taken from it.
pub(super) fn check_chain(text: &str) -> Result<(), Malformed> {
    let members = text.trim_matches(' ').split(',').map(|member| member.trim_matches([' ', '\t']));
    let mut count = 0;
    for member in members {
        bytes(member)?;
        count += 1;
    }
    if count > MAX_ELEMENTS { Err(Malformed) } else { Ok(()) }
}

fn bytes(text: &str) -> Result<Vec<u8>, Malformed> {
    let base64 = text.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or(Malformed)?;
    match STANDARD.decode(base64) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(Malformed),
    }
}
