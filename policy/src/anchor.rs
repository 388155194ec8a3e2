//! The certificates that a policy trusts to sign those of clients.
//!
//! A proxy says which certificate was presented and not by whom it was validated; a policy with anchors finds that out for
//! itself, so that a listener that lets anybody in lets nobody in. An anchor signs leaves directly: it is the intermediate
//! authority where there is one. Absent: chains, revocation lists, name constraints (an anchor that has them is refused).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::certificate::Issuer;
use crate::certificate::Leaf;
use crate::certificate::Provenance;
use crate::certificate::Signed;
use crate::signature::Verifier;
use crate::signature::VerifyingKey;

/// Certificates by which issuers are known, sorted by hash.
#[derive(Debug, Default)]
pub(crate) struct Anchors(pub(crate) Vec<Anchor>);

impl Anchors {
    /// Whether one of these hashes is of an anchor; of no anchors all are.
    pub(crate) fn know<'h>(&self, mut hashes: impl Iterator<Item = &'h [u8; 32]>) -> bool {
        self.0.is_empty() || hashes.any(|hash| self.0.iter().any(|anchor| anchor.issuer.sha256 == *hash))
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Anchor {
    issuer: Issuer,
    /// DER of its subject, which is the issuer of what it signs.
    subject: Box<[u8]>,
    /// DER of its public key.
    key: Box<[u8]>,
    der: Box<[u8]>,
}

/// RFC 5280 §4.2.1.10.
const NAME_CONSTRAINTS: &str = "2.5.29.30";

impl Anchor {
    /// Takes one certificate in PEM.
    ///
    /// # Errors
    ///
    /// Why no client's certificate is believed for its sake.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, String> {
        let der = Leaf::der_of_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
        let certificate = Leaf::from_der(&der).map_err(|error| error.to_string())?;
        let Provenance::Unchecked(signed) = certificate.provenance() else { return Err("it is not signed".to_owned()) };
        let signs = certificate.key_usage().is_some_and(|usage| usage.key_cert_sign());
        let verifies = |algorithm: &&str| VerifyingKey::of_issuer(&signed.key, algorithm).is_some();
        for (good, why) in [
            (certificate.is_ca(), "its basic constraints do not say that it is an authority"),
            (signs, "its key usage does not say that its key signs certificates"),
            (!certificate.subject().attributes().is_empty(), "it has no subject"),
            (
                !certificate.extensions().iter().any(|oid| oid == NAME_CONSTRAINTS),
                "it has name constraints, which are not carried out",
            ),
            (
                ALGORITHMS.iter().any(verifies),
                "its key is neither on P-256 or P-384, nor RSA of 2048 to 4096 bits, nor Ed25519",
            ),
        ] {
            if !good {
                return Err(why.to_owned());
            }
        }
        Ok(Self {
            issuer: Issuer {
                sha256: *certificate.sha256(),
                not_before: certificate.not_before(),
                not_after: certificate.not_after(),
            },
            subject: signed.subject.clone(),
            key: signed.key.clone(),
            der: der.into(),
        })
    }

    pub(crate) fn sha256(&self) -> &[u8; 32] {
        &self.issuer.sha256
    }

    /// Itself, in the one form of PEM.
    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let (lines, last) = text.as_bytes().as_chunks::<64>();
        let lines = lines.iter().map(<[u8; 64]>::as_slice).chain([last]).filter(|line| !line.is_empty());
        let body: String = lines.map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
        format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    }

    fn signed(&self, leaf: &Leaf, signed: &Signed, verifier: &mut dyn Verifier) -> bool {
        // Names are compared as bytes (RFC 5280 §4.1.2.4 asks issuers to write their subject as it is).
        self.subject == signed.issuer
            && VerifyingKey::of_issuer(&self.key, leaf.signature_algorithm())
                .is_some_and(|key| key.verify_x509(&signed.message, &signed.signature, verifier))
    }
}

/// What keys of the supported kinds sign with, one of each kind.
const ALGORITHMS: [&str; 3] = ["1.2.840.10045.4.3.2", "1.2.840.113549.1.1.11", "1.3.101.112"];

impl Anchors {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them has this hash.
    pub(crate) fn has(&self, sha256: &[u8; 32]) -> bool {
        self.0.binary_search_by(|anchor| anchor.sha256().cmp(sha256)).is_ok()
    }

    /// Those that signed a certificate. More than one if an authority's certificate was renewed with the same key.
    pub(crate) fn issuers(&self, leaf: &Leaf, verifier: &mut dyn Verifier) -> Vec<Issuer> {
        let Provenance::Unchecked(signed) = leaf.provenance() else { return Vec::new() };
        let signers = self.0.iter().filter(|anchor| anchor.signed(leaf, signed, verifier));
        signers.map(|anchor| anchor.issuer).collect()
    }
}
