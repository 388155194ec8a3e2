//! What a certificate is looked up by.

use sha2::Digest as _;
use sha2::Sha256;

use crate::certificate::Leaf;

/// One of the names under which a certificate can be revoked, as the first half of a SHA-256.
///
/// Half is enough: who makes two certificates with one key has only made a certificate that is refused, and to have another's
/// refused takes a second pre-image of 128 bits. It halves what every proxy holds and is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; Self::LENGTH]);

/// SHA-256 of an authority's distinguished name in DER, as certificates give it for their issuer.
///
/// Names are compared as bytes: RFC 5280 §4.1.2.6 asks authorities to write their own name always in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerName([u8; 32]);

impl IssuerName {
    /// The hash of this name.
    pub fn from_der(name: &[u8]) -> Self {
        Self(Sha256::digest(name).into())
    }

    /// From the hash itself.
    pub fn from_sha256(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of a certificate's issuer; `None` for a certificate that is only thought of.
    pub fn of(leaf: &Leaf) -> Option<Self> {
        leaf.issuer_name_sha256().map(Self)
    }
}

impl Key {
    /// Bytes of a key.
    pub(crate) const LENGTH: usize = 16;

    /// Of one certificate, as lists of authorities name it (RFC 5280 §5.3): issuer and serial number. Leading zero bytes of the
    /// number say nothing.
    pub fn of_serial(issuer: &IssuerName, serial: &[u8]) -> Self {
        let digits = serial.iter().position(|byte| *byte != 0).and_then(|first| serial.get(first..));
        Self::hash(b"serial", &[issuer.as_bytes(), digits.unwrap_or_default()])
    }

    /// Of one certificate, by the SHA-256 of its DER.
    pub fn of_certificate(sha256: &[u8; 32]) -> Self {
        Self::hash(b"certificate", &[sha256])
    }

    /// Of every certificate with a public key, by the SHA-256 of its `SubjectPublicKeyInfo` in DER.
    pub fn of_public_key(spki_sha256: &[u8; 32]) -> Self {
        Self::hash(b"public key", &[spki_sha256])
    }

    /// Of every certificate with an identity, in the form in which [`Leaf::identity`] gives it, or with that alternative name
    /// among others.
    pub fn of_identity(identity: &str) -> Self {
        Self::hash(b"identity", &[identity.as_bytes()])
    }

    /// Every key that a certificate is revoked under.
    pub fn all_of(leaf: &Leaf, issuer: &IssuerName) -> impl Iterator<Item = Self> {
        let fixed = [
            Self::of_serial(issuer, leaf.serial()),
            Self::of_certificate(leaf.sha256()),
            Self::of_public_key(leaf.spki_sha256()),
            Self::of_identity(leaf.identity()),
        ];
        fixed.into_iter().chain(leaf.labels().map(|label| Self::of_identity(&label)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// Only the last of the parts may have any length, so that no two lists of them are the same bytes.
    fn hash(kind: &[u8], parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update([0]);
        parts.iter().for_each(|part| hash.update(part));
        let whole: [u8; 32] = hash.finalize().into();
        let mut half = [0; Self::LENGTH];
        half.iter_mut().zip(whole).for_each(|(half, whole)| *half = whole);
        Self(half)
    }
}
