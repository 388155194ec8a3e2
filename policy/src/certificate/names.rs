//! Subject alternative names (RFC 5280 §4.2.1.6).

use std::net::IpAddr;

use super::der;
use super::der::Element;
use super::distinguished_name::DistinguishedName;
use super::error::CertificateError;
use super::oid;

/// One subject alternative name. The kind is part of the name: a rule about one kind never looks at another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlternativeName {
    /// `directoryName`.
    Directory(DistinguishedName),
    /// `dNSName`; printable ASCII, in the certificate's case, no label empty.
    Dns(String),
    /// `ediPartyName`, undecoded.
    EdiParty(Box<[u8]>),
    /// `rfc822Name`; printable ASCII.
    Email(String),
    /// `iPAddress`.
    Ip(IpAddr),
    /// `otherName`.
    Other {
        /// The kind of name, as a dotted object identifier.
        oid: String,
        /// The DER of its value.
        value: Box<[u8]>,
    },
    /// `registeredID`, as a dotted object identifier.
    RegisteredId(String),
    /// `uniformResourceIdentifier`; printable ASCII.
    Uri(String),
    /// `x400Address`, undecoded.
    X400(Box<[u8]>),
}

impl AlternativeName {
    pub(super) fn as_uri(&self) -> Option<&str> {
        if let Self::Uri(uri) = self { Some(uri) } else { None }
    }

    pub(super) fn as_dns(&self) -> Option<&str> {
        if let Self::Dns(name) = self { Some(name) } else { None }
    }

    pub(super) fn as_email(&self) -> Option<&str> {
        if let Self::Email(address) = self { Some(address) } else { None }
    }

    pub(super) fn as_ip(&self) -> Option<IpAddr> {
        if let Self::Ip(address) = self { Some(*address) } else { None }
    }
}

/// Parses the value of a subject alternative name extension.
pub(super) fn parse(extension: &[u8]) -> Result<Vec<AlternativeName>, CertificateError> {
    const MALFORMED: CertificateError = CertificateError::Malformed("subject alternative name");

    let mut reader = der::only(extension, der::SEQUENCE).ok_or(MALFORMED)?.reader();
    let mut names = Vec::new();
    while !reader.rest().is_empty() {
        let element = reader.any().ok_or(MALFORMED)?;
        let index = names.len();
        names.push(match element.tag {
            0x81 => AlternativeName::Email(ascii(element.contents, index)?),
            0x82 => AlternativeName::Dns(dns(element.contents, index)?),
            0x86 => AlternativeName::Uri(ascii(element.contents, index)?),
            0x87 => AlternativeName::Ip(address(element.contents, index)?),
            _ => uncommon(element).ok_or(MALFORMED)?,
        });
    }
    // At least one (`SIZE (1..MAX)`): an extension without names is not the same as no extension, so nobody can say
    // whether the subject may stand in for them.
    if names.is_empty() { Err(MALFORMED) } else { Ok(names) }
}

/// An IA5String that other programs cannot read as another name: no NUL to stop at, no line to break, nothing to decode.
fn ascii(contents: &[u8], index: usize) -> Result<String, CertificateError> {
    if contents.is_empty() {
        return Err(CertificateError::EmptyName { index });
    }
    if let Some(&byte) = contents.iter().find(|byte| !matches!(byte, 0x20..=0x7e)) {
        return Err(CertificateError::NameCharacter { index, byte });
    }
    Ok(contents.iter().copied().map(char::from).collect())
}

/// A DNS name that no program can take for one without its dots.
fn dns(contents: &[u8], index: usize) -> Result<String, CertificateError> {
    let name = ascii(contents, index)?;
    if name.split('.').any(str::is_empty) { Err(CertificateError::EmptyLabel { index }) } else { Ok(name) }
}

fn address(contents: &[u8], index: usize) -> Result<IpAddr, CertificateError> {
    if let Ok(octets) = <[u8; 4]>::try_from(contents) {
        return Ok(octets.into());
    }
    match <[u8; 16]>::try_from(contents) {
        Ok(octets) => Ok(octets.into()),
        Err(_) => Err(CertificateError::AddressLength { index, length: contents.len() }),
    }
}

fn uncommon(element: Element<'_>) -> Option<AlternativeName> {
    let contents = element.contents;
    match element.tag {
        // otherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }, implicitly tagged.
        0xa0 => {
            let mut fields = element.reader();
            let oid = oid::dotted(fields.take(der::OBJECT_IDENTIFIER)?.contents)?;
            let mut wrapper = fields.take(der::context_constructed(0))?.reader();
            fields.finish()?;
            let value = wrapper.any()?.encoded.into();
            wrapper.finish()?;
            Some(AlternativeName::Other { oid, value })
        }
        0xa3 => Some(AlternativeName::X400(contents.into())),
        // A Name is a CHOICE, so its tag is explicit.
        0xa4 => DistinguishedName::parse(der::only(contents, der::SEQUENCE)?).map(AlternativeName::Directory),
        0xa5 => Some(AlternativeName::EdiParty(contents.into())),
        0x88 => oid::dotted(contents).map(AlternativeName::RegisteredId),
        _ => None,
    }
}
