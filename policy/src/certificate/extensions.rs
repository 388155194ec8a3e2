//! The extensions that say something about the holder (RFC 5280 §4.2).

use std::collections::BTreeSet;

use super::der;
use super::der::Element;
use super::der::Reader;
use super::error::CertificateError;
use super::names;
use super::names::AlternativeName;
use super::oid;

/// What the key may be used for (RFC 5280 §4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// The first eight bits of the extension, in its order: the first is the highest.
    bits: u8,
}

impl KeyUsage {
    /// Signing what is not a certificate: handshakes above all.
    pub fn digital_signature(self) -> bool {
        self.bits & 0x80 != 0
    }

    /// Signing certificates.
    pub fn key_cert_sign(self) -> bool {
        self.bits & 0x04 != 0
    }

    /// Signing revocation lists.
    pub fn crl_sign(self) -> bool {
        self.bits & 0x02 != 0
    }
}

/// What the extensions of one certificate say.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) alternative_names: Vec<AlternativeName>,
    pub(super) eku: Vec<String>,
    /// Of every extension.
    pub(super) ids: Vec<String>,
    pub(super) policies: Option<Vec<String>>,
    pub(super) authority_key_id: Option<Box<[u8]>>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) ca: bool,
}

impl Extensions {
    /// Parses the contents of `Extensions`; those that are of no interest here need only be well-formed and single.
    pub(super) fn parse(extensions: Element<'_>) -> Result<Self, CertificateError> {
        const MALFORMED: CertificateError = CertificateError::Malformed("extension");

        let mut parsed = Self::default();
        let mut seen = BTreeSet::new();
        let mut list = extensions.reader();
        while !list.rest().is_empty() {
            let (id, value) = list.take(der::SEQUENCE).and_then(extension).ok_or(MALFORMED)?;
            let dotted = oid::dotted(id).ok_or(MALFORMED)?;
            if !seen.insert(id) {
                return Err(CertificateError::DuplicateExtension(dotted));
            }
            parsed.ids.push(dotted);
            match id {
                AUTHORITY_KEY_IDENTIFIER => {
                    let malformed = CertificateError::Malformed("authority key identifier");
                    parsed.authority_key_id = authority_key_id(value).ok_or(malformed)?;
                }
                BASIC_CONSTRAINTS => {
                    parsed.ca = basic_constraints(value).ok_or(CertificateError::Malformed("basic constraints"))?;
                }
                CERTIFICATE_POLICIES => {
                    let malformed = CertificateError::Malformed("certificate policies");
                    parsed.policies = Some(policies(value).ok_or(malformed)?);
                }
                EXTENDED_KEY_USAGE => {
                    parsed.eku = eku(value).ok_or(CertificateError::Malformed("extended key usage"))?;
                }
                KEY_USAGE => {
                    let usage = key_usage(value).ok_or(CertificateError::Malformed("key usage"))?;
                    parsed.key_usage = Some(usage);
                }
                SUBJECT_ALTERNATIVE_NAME => parsed.alternative_names = names::parse(value)?,
                _ => {}
            }
        }
        if seen.is_empty() { Err(MALFORMED) } else { Ok(parsed) }
    }
}

/// Identifier and value of one extension.
fn extension(element: Element<'_>) -> Option<(&[u8], &[u8])> {
    let mut fields = element.reader();
    let id = fields.take(der::OBJECT_IDENTIFIER)?.contents;
    // An explicit FALSE is not DER (it is the default), and so common that everybody takes it.
    if let Some(critical) = fields.take_if(der::BOOLEAN)? {
        der::boolean(critical.contents)?;
    }
    let value = fields.take(der::OCTET_STRING)?.contents;
    fields.finish()?;
    Some((id, value))
}

fn authority_key_id(value: &[u8]) -> Option<Option<Box<[u8]>>> {
    let mut fields = der::only(value, der::SEQUENCE)?.reader();
    let key_id = fields.take_if(der::context(0))?;
    fields.take_if(der::context_constructed(1))?;
    fields.take_if(der::context(2))?;
    fields.finish()?;
    Some(key_id.map(|element| element.contents.into()))
}

fn basic_constraints(value: &[u8]) -> Option<bool> {
    let mut fields = der::only(value, der::SEQUENCE)?.reader();
    let ca = match fields.take_if(der::BOOLEAN)? {
        Some(ca) => der::boolean(ca.contents)?,
        None => false,
    };
    if let Some(path_length) = fields.take_if(der::INTEGER)? {
        der::is_integer(path_length.contents).then_some(())?;
    }
    fields.finish()?;
    Some(ca)
}

fn eku(value: &[u8]) -> Option<Vec<String>> {
    let mut list = der::only(value, der::SEQUENCE)?.reader();
    let mut purposes = Vec::new();
    while !list.rest().is_empty() {
        purposes.push(oid::dotted(list.take(der::OBJECT_IDENTIFIER)?.contents)?);
    }
    (!purposes.is_empty()).then_some(purposes)
}

/// RFC 5280 §4.2.1.4: a policy occurs once; what qualifies it is not looked at.
fn policies(value: &[u8]) -> Option<Vec<String>> {
    let mut list = der::only(value, der::SEQUENCE)?.reader();
    let mut policies: Vec<String> = Vec::new();
    while !list.rest().is_empty() {
        let mut fields = list.take(der::SEQUENCE)?.reader();
        let policy = oid::dotted(fields.take(der::OBJECT_IDENTIFIER)?.contents)?;
        fields.take_if(der::SEQUENCE)?;
        fields.finish()?;
        if policies.contains(&policy) {
            return None;
        }
        policies.push(policy);
    }
    (!policies.is_empty()).then_some(policies)
}

fn key_usage(value: &[u8]) -> Option<KeyUsage> {
    let mut reader = Reader::new(value);
    let (bits, _) = der::bit_string(reader.take(der::BIT_STRING)?.contents)?;
    reader.finish()?;
    Some(KeyUsage { bits: bits.first().copied().unwrap_or(0) })
}

/// See [`Leaf::eku_oid`](super::Leaf::eku_oid).
pub(super) fn eku_oid(name: &str) -> Option<&str> {
    match PURPOSES.iter().find(|(_, purpose)| *purpose == name) {
        Some((oid, _)) => Some(oid),
        None => oid::is_dotted(name).then_some(name),
    }
}

/// RFC 5280 §4.2.1.12.
const PURPOSES: &[(&str, &str)] = &[
    ("1.3.6.1.5.5.7.3.1", "server_auth"),
    ("1.3.6.1.5.5.7.3.2", "client_auth"),
    ("1.3.6.1.5.5.7.3.3", "code_signing"),
    ("1.3.6.1.5.5.7.3.4", "email_protection"),
    ("1.3.6.1.5.5.7.3.8", "time_stamping"),
    ("1.3.6.1.5.5.7.3.9", "ocsp_signing"),
    ("2.5.29.37.0", "any"),
];

// Contents of the object identifiers 2.5.29.*.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 32];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
