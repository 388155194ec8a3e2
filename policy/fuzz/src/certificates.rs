//! Certificates in DER and PEM, and SPIFFE IDs.

use std::net::IpAddr;

use portcullis_policy::AlternativeName;
use portcullis_policy::CertificateError;
use portcullis_policy::Leaf;
use portcullis_policy::SpiffeId;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

/// What the strict reader accepts, a lax one accepts too, and both read the same facts.
pub(crate) fn leaf(der: &[u8]) {
    let Ok(leaf) = Leaf::from_der(der) else { return };
    let (rest, other) = X509Certificate::from_der(der).expect("the second reader accepts it");
    assert!(rest.is_empty());
    assert_eq!(leaf.not_before().0, other.validity().not_before.timestamp());
    assert_eq!(leaf.not_after().0, other.validity().not_after.timestamp());
    assert_eq!(leaf.serial(), other.tbs_certificate.raw_serial());
    assert_eq!(leaf.is_ca(), other.tbs_certificate.is_ca());
    let names = other.tbs_certificate.subject_alternative_name().expect("no extension occurs twice");
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    assert_eq!(leaf.alternative_names().len(), names.len());
    for (ours, theirs) in leaf.alternative_names().iter().zip(names) {
        assert!(same_name(ours, theirs), "{ours:?} is {theirs:?}");
    }
    let attributes = other.subject().iter_attributes().count();
    assert_eq!(leaf.subject().attributes().len(), attributes);
    identity(&leaf);
}

fn same_name(ours: &AlternativeName, theirs: &GeneralName<'_>) -> bool {
    match (ours, theirs) {
        (AlternativeName::Uri(ours), GeneralName::URI(theirs)) => ours == theirs,
        (AlternativeName::Dns(ours), GeneralName::DNSName(theirs)) => ours == theirs,
        (AlternativeName::Email(ours), GeneralName::RFC822Name(theirs)) => ours == theirs,
        (AlternativeName::Ip(IpAddr::V4(ours)), GeneralName::IPAddress(theirs)) => ours.octets() == *theirs,
        (AlternativeName::Ip(IpAddr::V6(ours)), GeneralName::IPAddress(theirs)) => ours.octets() == *theirs,
        (AlternativeName::Directory(ours), GeneralName::DirectoryName(theirs)) => {
            ours.attributes().len() == theirs.iter_attributes().count()
        }
        (AlternativeName::Other { oid, .. }, GeneralName::OtherName(theirs, _)) => same_oid(oid, theirs),
        (AlternativeName::RegisteredId(oid), GeneralName::RegisteredID(theirs)) => same_oid(oid, theirs),
        (AlternativeName::X400(_), GeneralName::X400Address(_)) => true,
        (AlternativeName::EdiParty(_), GeneralName::EDIPartyName(_)) => true,
        _ => false,
    }
}

/// The second reader takes the first two arcs from one byte; X.690 §8.19.4 lets the second one of `2.` be of any size.
fn same_oid(ours: &str, theirs: &Oid<'_>) -> bool {
    let has_large_arc = theirs.as_bytes().first().is_some_and(|byte| byte & 0x80 != 0);
    if has_large_arc { ours.starts_with("2.") } else { ours == theirs.to_id_string() }
}

/// The label goes into a header and a log: it ends no line, and only a SPIFFE ID looks like one.
fn identity(leaf: &Leaf) {
    let label = leaf.identity();
    assert!(!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{label:?}");
    assert_eq!(label.starts_with("spiffe://"), leaf.spiffe().is_some(), "{label}");
    if let Some(id) = leaf.spiffe() {
        assert_eq!(label, id.as_str());
        assert_eq!(leaf.uris().collect::<Vec<_>>(), [id.as_str()]);
        assert!(!leaf.is_ca());
    }
}

/// PEM is read as one certificate or not at all, percent-encoded or not.
pub(crate) fn pem(text: &[u8]) {
    let encoded: String = text.iter().map(|byte| format!("%{byte:02X}")).collect();
    let plain = Leaf::from_pem(text);
    match (&plain, Leaf::from_url_encoded_pem(encoded.as_bytes())) {
        (Ok(plain), Ok(encoded)) => assert_eq!(plain.sha256(), encoded.sha256()),
        // What stands between the percent signs has no length of its own.
        (Err(CertificateError::TooLong { .. }), Err(_)) => {}
        (Err(plain), Err(encoded)) => assert_eq!(*plain, encoded),
        (plain, encoded) => panic!("plain {plain:?}, encoded {encoded:?}"),
    }
    if plain.is_ok() {
        match x509_parser::pem::parse_x509_pem(text) {
            Ok((rest, block)) => {
                assert!(rest.trim_ascii().is_empty());
                assert_eq!(block.label, "CERTIFICATE");
                leaf(&block.contents);
            }
            // The second reader takes no blanks between the digits, which RFC 7468 §3 asks for; the labels hold two.
            Err(error) => {
                let blanks = text.iter().filter(|byte| b" \t\r\x0c".contains(byte)).count();
                assert!(blanks > 2, "the second reader refuses it: {error}");
            }
        }
    }
    if let Ok(read) = Leaf::from_url_encoded_pem(text) {
        identity(&read);
        // A text that holds an escape is not read as it is.
        assert!(plain.is_err() || !text.contains(&b'%'));
    }
}

/// A SPIFFE ID has one spelling, and what it is matched by puts it together again.
pub(crate) fn spiffe(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some(id) = SpiffeId::parse(text) else { return };
    assert_eq!(id.as_str(), text);
    let segments: Vec<_> = id.segments().collect();
    let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
    assert_eq!(format!("spiffe://{}{path}", id.trust_domain()), text);
    assert!(segments.iter().all(|segment| !segment.is_empty() && *segment != "." && *segment != ".."));
    assert!(!id.trust_domain().bytes().any(|byte| byte.is_ascii_uppercase()));
    assert!(text.len() <= 2048 && !text.contains(['?', '#', '%', '@', '\\', ' ', ',', ';', '"']));
    assert!(!id.trust_domain().contains(':'));
}
