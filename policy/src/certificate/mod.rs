//! A client's leaf certificate, parsed once into everything that a rule can ask of it.

use crate::time::UnixTime;

/// A parsed leaf certificate (RFC 5280). Parse once, keep, ask often.
#[derive(Clone, Debug)]
pub struct Leaf {
    sha256: [u8; 32],
    identity: String,
    not_before: UnixTime,
    not_after: UnixTime,
}

/// Why bytes are not a certificate that an identity can be taken from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not DER, not PEM, or not one certificate.
    #[error("not a certificate")]
    Malformed,
}

impl Leaf {
    /// Parses the DER of one certificate; trailing bytes are refused.
    ///
    /// # Errors
    ///
    /// [`CertificateError`], if an identity cannot be taken from these bytes.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let _ = der;
        Err(CertificateError::Malformed)
    }

    /// Parses exactly one PEM `CERTIFICATE` block (RFC 7468).
    ///
    /// # Errors
    ///
    /// As [`Leaf::from_der`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        Self::from_der(pem)
    }

    /// Parses PEM with percent-encoding, as Envoy's `connection.peer_certificate` and the `Cert` of XFCC carry it.
    ///
    /// # Errors
    ///
    /// As [`Leaf::from_der`].
    pub fn from_url_encoded_pem(text: &[u8]) -> Result<Self, CertificateError> {
        Self::from_der(text)
    }

    /// SHA-256 of the certificate's DER.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The label of who this is: visible ASCII, safe in a header. Matching never uses it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// First second at which the certificate is valid.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Last second at which the certificate is valid (RFC 5280 §4.1.2.5: inclusive).
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}
