//! The kinds of keys among which a listener with several certificates chooses by what a client offers (RFC 8446 §4.4.2.2,
//! RFC 8422 §2).

use std::fmt;

use rustls::SignatureScheme;
use rustls::SupportedCipherSuite;
use x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY;
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

/// What a leaf's key signs with, whatever its size or curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// On a curve of NIST.
    Ecdsa,
    /// RFC 8032.
    Ed25519,
    /// PKCS #1.
    Rsa,
}

impl KeyType {
    /// The kind of a certificate's key; none if it is of another.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let algorithm = &certificate.public_key().algorithm.algorithm;
        let known = [
            (OID_KEY_TYPE_EC_PUBLIC_KEY, Self::Ecdsa),
            (OID_SIG_ED25519, Self::Ed25519),
            (OID_PKCS1_RSAENCRYPTION, Self::Rsa),
        ];
        known.into_iter().find_map(|(oid, key)| (*algorithm == oid).then_some(key))
    }

    /// Whether such a key signs a handshake so.
    pub(super) fn signs(self, scheme: SignatureScheme) -> bool {
        match scheme {
            SignatureScheme::ECDSA_NISTP256_SHA256
            | SignatureScheme::ECDSA_NISTP384_SHA384
            | SignatureScheme::ECDSA_NISTP521_SHA512 => self == Self::Ecdsa,
            SignatureScheme::ED25519 => self == Self::Ed25519,
            SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::RSA_PSS_SHA256
            | SignatureScheme::RSA_PSS_SHA384
            | SignatureScheme::RSA_PSS_SHA512 => self == Self::Rsa,
            _ => false,
        }
    }

    /// Whether such a key can go with a suite: those of TLS 1.2 say what signs.
    pub(super) fn goes_with(self, suite: SupportedCipherSuite) -> bool {
        match suite {
            SupportedCipherSuite::Tls12(suite) => suite.sign.iter().any(|scheme| self.signs(*scheme)),
            SupportedCipherSuite::Tls13(_) => true,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}
