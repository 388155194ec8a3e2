//! Who signed a certificate: asked once, when its roles are worked out, and then only the answer is kept.

use crate::time::UnixTime;

/// What is known of who signed a certificate.
#[derive(Clone, Debug)]
pub(crate) enum Provenance {
    /// Nobody asked yet.
    Unchecked(Box<Signed>),
    /// These certificates' keys verify its signature, and their subject is its issuer.
    Checked(Vec<Issuer>),
    /// Nobody signed it, it is only thought of; as if this certificate, by its hash, had.
    Thought(Option<[u8; 32]>),
}

/// The parts of a certificate that a signature is about.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// `tbsCertificate`, DER (RFC 5280 §4.1.1.1).
    pub(crate) message: Box<[u8]>,
    /// `signatureValue`.
    pub(crate) signature: Box<[u8]>,
    /// `issuer`, DER.
    pub(crate) issuer: Box<[u8]>,
    /// `subject`, DER.
    pub(crate) subject: Box<[u8]>,
    /// `subjectPublicKeyInfo`, DER.
    pub(crate) key: Box<[u8]>,
}

/// A certificate that signed another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Issuer {
    pub(crate) sha256: [u8; 32],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

impl Provenance {
    /// The hashes of those who signed.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &[u8; 32]> {
        let (checked, thought) = match self {
            Self::Unchecked(_) => (&[][..], None),
            Self::Checked(issuers) => (issuers.as_slice(), None),
            Self::Thought(issuer) => (&[][..], issuer.as_ref()),
        };
        checked.iter().map(|issuer| &issuer.sha256).chain(thought)
    }

    /// First and last second of each of those who signed.
    pub(crate) fn validities(&self) -> impl Iterator<Item = (UnixTime, UnixTime)> {
        let checked = match self {
            Self::Checked(issuers) => issuers.as_slice(),
            Self::Unchecked(_) | Self::Thought(_) => &[],
        };
        checked.iter().map(|issuer| (issuer.not_before, issuer.not_after))
    }

    /// Whether one of those who signed is valid at `now`.
    pub(crate) fn is_known(&self, now: UnixTime) -> bool {
        match self {
            Self::Unchecked(_) => false,
            Self::Checked(issuers) => issuers.iter().any(|issuer| issuer.not_before <= now && now <= issuer.not_after),
            Self::Thought(_) => true,
        }
    }
}
