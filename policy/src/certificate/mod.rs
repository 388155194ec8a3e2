//! A client's leaf certificate, parsed once into everything that a rule can ask of it.
//!
//! Strict on purpose: DER and nothing but DER, no bytes left over, no extension twice, no name with a character that its
//! type does not have. What a proxy's TLS library reads in a looser way is refused here, never guessed at. Absent: chains and
//! revocation; the proxy validated the certificate before anybody asks who it names. Signatures are checked against the
//! anchors of a policy that has some, see [`crate::anchor`].

pub(crate) mod der;
mod description;
mod distinguished_name;
mod error;
mod extensions;
mod label;
mod names;
pub(crate) mod oid;
mod parse;
mod pem;
mod provenance;
mod rfc2253;
mod synthetic;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::spiffe::SpiffeId;
use crate::time::UnixTime;

pub use description::Description;
pub use distinguished_name::Attribute;
pub use distinguished_name::DistinguishedName;
pub use error::CertificateError;
pub use extensions::KeyUsage;
pub use names::AlternativeName;
pub use parse::PublicKey;

pub(crate) use pem::first_block as first_pem_block;
pub(crate) use pem::percent_decode;
pub(crate) use provenance::Issuer;
pub(crate) use provenance::Provenance;
pub(crate) use provenance::Signed;
pub(crate) use synthetic::Synthetic;

/// A parsed leaf certificate (RFC 5280). Parse once, keep, ask often.
#[derive(Clone, Debug)]
pub struct Leaf {
    sha256: [u8; 32],
    spki_sha256: [u8; 32],
    identity: String,
    spiffe: Option<SpiffeId>,
    serial: Box<[u8]>,
    signature_algorithm: String,
    issuer: DistinguishedName,
    not_before: UnixTime,
    not_after: UnixTime,
    subject: DistinguishedName,
    public_key: PublicKey,
    alternative_names: Vec<AlternativeName>,
    eku: Vec<String>,
    extensions: Vec<String>,
    policies: Option<Vec<String>>,
    authority_key_id: Option<Box<[u8]>>,
    key_usage: Option<KeyUsage>,
    ca: bool,
    provenance: Provenance,
    /// SHA-256 of the issuer's DER; none if the certificate is only thought of.
    issuer_name_sha256: Option<[u8; 32]>,
}

impl Leaf {
    /// Parses the DER of one certificate; trailing bytes are refused.
    ///
    /// # Errors
    ///
    /// [`CertificateError`], if an identity cannot be taken from these bytes.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        parse::certificate(der)
    }

    /// Parses exactly one PEM `CERTIFICATE` block (RFC 7468), with nothing but white space around it.
    ///
    /// # Errors
    ///
    /// As [`Leaf::from_der`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        Self::from_der(&pem::decode(pem)?)
    }

    /// The DER in one PEM block.
    pub(crate) fn der_of_pem(pem: &[u8]) -> Result<Vec<u8>, CertificateError> {
        pem::decode(pem)
    }

    /// Parses PEM with percent-encoding, as Envoy's `connection.peer_certificate` and the `Cert` of XFCC carry it.
    ///
    /// # Errors
    ///
    /// As [`Leaf::from_der`].
    pub fn from_url_encoded_pem(text: &[u8]) -> Result<Self, CertificateError> {
        Self::from_pem(&percent_decode(text)?)
    }

    /// SHA-256 of the certificate's DER.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`'s DER: the same for every certificate of one key.
    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    /// The label of who this is: visible ASCII, safe in a header. Roles and rules never match it.
    ///
    /// The SPIFFE ID if there is one, else the only alternative name with its kind before it, else the subject if there is no
    /// alternative name, else the certificate's hash. Two different names never have one label.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The alternative names in the form in which [`Leaf::identity`] gives the only one.
    pub(crate) fn labels(&self) -> impl Iterator<Item = String> {
        self.alternative_names.iter().filter_map(label::name)
    }

    /// SHA-256 of the issuer's name in DER; `None` for a certificate that is only thought of.
    pub(crate) fn issuer_name_sha256(&self) -> Option<[u8; 32]> {
        self.issuer_name_sha256
    }

    /// The SPIFFE ID, if this is an X.509-SVID: a single URI among the alternative names, which is a SPIFFE ID with a path, in
    /// a certificate that may not sign others (X509-SVID §2, §3.1, §5.2).
    pub fn spiffe(&self) -> Option<&SpiffeId> {
        self.spiffe.as_ref()
    }

    /// Every subject alternative name, in the certificate's order.
    pub fn alternative_names(&self) -> &[AlternativeName] {
        &self.alternative_names
    }

    /// The `uniformResourceIdentifier` names.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.alternative_names.iter().filter_map(AlternativeName::as_uri)
    }

    /// The `dNSName` names, as they are written.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.alternative_names.iter().filter_map(AlternativeName::as_dns)
    }

    /// The `rfc822Name` names.
    pub fn emails(&self) -> impl Iterator<Item = &str> {
        self.alternative_names.iter().filter_map(AlternativeName::as_email)
    }

    /// The `iPAddress` names.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.alternative_names.iter().filter_map(AlternativeName::as_ip)
    }

    /// Who the certificate is about; often empty where there are alternative names.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// Who signed it, by its own word.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// The serial number: the contents of the INTEGER, big-endian. A leading zero byte only keeps it positive.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// First second at which the certificate is valid.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Last second at which the certificate is valid (RFC 5280 §4.1.2.5: inclusive).
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The purposes of the extended key usage extension, as dotted object identifiers; empty without the extension.
    pub fn eku(&self) -> &[String] {
        &self.eku
    }

    /// The dotted object identifier of a purpose, given as such or by its name (`client_auth`); `None` if it is neither.
    pub fn eku_oid(purpose: &str) -> Option<&str> {
        extensions::eku_oid(purpose)
    }

    /// Every extension that it has, as dotted object identifiers.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The certificate policies (RFC 5280 §4.2.1.4), as dotted object identifiers; `None` without the extension.
    pub fn policies(&self) -> Option<&[String]> {
        self.policies.as_deref()
    }

    /// Whether `text` is a dotted object identifier, in the form in which this crate writes them.
    pub fn is_oid(text: &str) -> bool {
        oid::is_dotted(text)
    }

    /// The key identifier of the authority key identifier extension: which of the issuer's keys signed.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// The key usage extension.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.key_usage
    }

    /// Whether the basic constraints say that this is a CA.
    pub fn is_ca(&self) -> bool {
        self.ca
    }

    /// Kind and size of the key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Who signed it, as far as anybody asked.
    pub(crate) fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Keeps who signed it in place of the bytes by which that is found out.
    pub(crate) fn signed_by(&mut self, issuers: Vec<Issuer>) {
        if let Provenance::Unchecked(_) = self.provenance {
            self.provenance = Provenance::Checked(issuers);
        }
    }

    /// What it was signed with, as a dotted object identifier.
    pub fn signature_algorithm(&self) -> &str {
        &self.signature_algorithm
    }
}
