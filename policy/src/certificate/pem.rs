//! The textual forms of one certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::CertificateError;
use super::parse::MAX_DER;

/// Base64, line ends and the two boundaries of the largest certificate that is read, with room to spare.
const MAX_PEM: usize = MAX_DER * 3 / 2 + 1024;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// The DER in one PEM block (RFC 7468).
///
/// Text around the block and headers inside it are refused: a second certificate could hide there, and readers differ on
/// which one they take.
pub(super) fn decode(pem: &[u8]) -> Result<Vec<u8>, CertificateError> {
    if pem.len() > MAX_PEM {
        return Err(CertificateError::TooLong { length: pem.len() });
    }
    let block = pem.trim_ascii().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let base64: Vec<u8> = match block {
        // The boundaries stand on lines of their own (RFC 7468 §3).
        Some(lines @ [b'\r' | b'\n', .., b'\r' | b'\n']) => {
            lines.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
        }
        _ => return Err(CertificateError::Pem),
    };
    match STANDARD.decode(base64) {
        Ok(der) if !der.is_empty() => Ok(der),
        _ => Err(CertificateError::Pem),
    }
}

/// The first of several PEM blocks that follow each other; `None` if there is no end of one.
pub(crate) fn first_block(pem: &[u8]) -> Option<&[u8]> {
    let start = pem.windows(END.len()).position(|window| window == END)?;
    pem.get(..start + END.len())
}

/// Undoes percent-encoding (RFC 3986 §2.1). A `+` stays a `+`: it is a digit of base64.
pub(crate) fn percent_decode(text: &[u8]) -> Result<Vec<u8>, CertificateError> {
    if text.len() > 3 * MAX_PEM {
        return Err(CertificateError::TooLong { length: text.len() });
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let bad = || CertificateError::BadEscape(text.len() - after.len() - 1);
        let (&[high, low], after) = after.split_first_chunk::<2>().ok_or_else(bad)?;
        let digits = crate::hex::digit(high).zip(crate::hex::digit(low));
        let (high, low) = digits.ok_or_else(bad)?;
        decoded.push(high << 4 | low);
        rest = after;
    }
    Ok(decoded)
}
