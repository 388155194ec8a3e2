//! Certificates as the agent looks at them: PEM to DER, serial, hash, validity.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::schedule::Validity;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use crate::status::LeafStatus;

/// What the agent remembers of a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Lower-case hex without leading zeros.
    pub serial: String,
    /// SHA-256 of the DER, hex.
    pub sha256: String,
    /// From when to when it is valid.
    pub validity: Validity,
}

/// Why bytes are not a certificate that the agent can handle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate")]
pub struct LeafError;

impl Leaf {
    /// Reads one certificate.
    ///
    /// # Errors
    ///
    /// [`LeafError`].
    pub fn from_der(der: &[u8]) -> Result<Self, LeafError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| LeafError)?;
        if !rest.is_empty() {
            return Err(LeafError);
        }
        let validity = certificate.validity();
        Ok(Self {
            serial: serial_hex(certificate.raw_serial()),
            sha256: hex(&Sha256::digest(der)),
            validity: Validity {
                not_before: UnixTime(validity.not_before.timestamp()),
                not_after: UnixTime(validity.not_after.timestamp()),
            },
        })
    }

    /// For the status.
    pub fn status(&self) -> LeafStatus {
        LeafStatus {
            serial: self.serial.clone(),
            sha256: self.sha256.clone(),
            not_before: timestamp(self.validity.not_before),
            not_after: timestamp(self.validity.not_after),
        }
    }
}

/// The certificates of a PEM text, in its order.
///
/// # Errors
///
/// [`LeafError`], if there is none, or one that is not PEM.
pub fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, LeafError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(LeafError)
}

/// Whether subject and issuer are the same: a root, or somebody who wants to be one.
pub fn is_self_issued(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.subject() == certificate.issuer())
}

/// DER as PEM (RFC 7468): lines of 64 characters, which is all that some readers take.
pub fn pem(label: &str, der: &[u8]) -> String {
    let digits = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = digits.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The time now, in whole seconds.
pub fn now() -> UnixTime {
    UnixTime(Timestamp::now().as_second())
}

/// For people; a time that no calendar holds becomes the nearest that it holds.
pub fn timestamp(time: UnixTime) -> Timestamp {
    let bounded = time.0.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(bounded).unwrap_or(Timestamp::MAX)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A serial number as people compare it: hex without leading zeros.
pub fn serial_hex(bytes: &[u8]) -> String {
    let text = hex(bytes);
    let digits = text.trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
}
