//! Certificates that no CA ever signed: what a policy's own tests present, samples, and what records describe.
//!
//! Nothing outside this crate makes one, but for [`Leaf::described`], and nothing that a client sends becomes one.

use super::AlternativeName;
use super::DistinguishedName;
use super::Leaf;
use super::Provenance;
use super::PublicKey;
use super::label;
use super::parse;
use crate::time::UnixTime;

/// The facts of a certificate that is only thought of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synthetic {
    pub(crate) alternative_names: Vec<AlternativeName>,
    /// Dotted object identifiers and values.
    pub(crate) subject: Vec<(String, String)>,
    pub(crate) issuer: Vec<(String, String)>,
    /// Dotted object identifiers.
    pub(crate) eku: Vec<String>,
    /// Dotted object identifiers of its certificate policies.
    pub(crate) policies: Option<Vec<String>>,
    pub(crate) public_key: PublicKey,
    /// Hash of the certificate that is thought to have signed it.
    pub(crate) issuer_sha256: Option<[u8; 32]>,
    pub(crate) authority_key_id: Option<Box<[u8]>>,
    pub(crate) serial: Box<[u8]>,
    pub(crate) sha256: [u8; 32],
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

impl Synthetic {
    /// A certificate without a name, valid from `now` on.
    pub(crate) fn blank(now: UnixTime) -> Self {
        Self {
            alternative_names: Vec::new(),
            subject: Vec::new(),
            issuer: Vec::new(),
            eku: Vec::new(),
            policies: None,
            public_key: PublicKey::Other { algorithm: String::new() },
            issuer_sha256: None,
            authority_key_id: None,
            serial: Box::new([1]),
            sha256: [0; 32],
            spki_sha256: [0; 32],
            not_before: now,
            not_after: UnixTime(i64::MAX),
        }
    }

    /// The leaf with these facts and no others.
    pub(crate) fn leaf(self) -> Leaf {
        let spiffe = parse::spiffe_id(&self.alternative_names);
        let subject = DistinguishedName::synthetic(self.subject);
        Leaf {
            identity: label::identity(spiffe.as_ref(), &self.alternative_names, &subject, &self.sha256),
            sha256: self.sha256,
            spki_sha256: self.spki_sha256,
            spiffe,
            serial: self.serial,
            signature_algorithm: String::new(),
            issuer: DistinguishedName::synthetic(self.issuer),
            not_before: self.not_before,
            not_after: self.not_after,
            subject,
            public_key: self.public_key,
            alternative_names: self.alternative_names,
            eku: self.eku,
            extensions: Vec::new(),
            policies: self.policies,
            authority_key_id: self.authority_key_id,
            key_usage: None,
            ca: false,
            provenance: Provenance::Thought(self.issuer_sha256),
            issuer_name_sha256: None,
        }
    }
}
