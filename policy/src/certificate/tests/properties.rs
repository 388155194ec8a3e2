//! For all inputs: no panic, and never another reading than that of `x509-parser`, which accepts more.

use proptest::prelude::*;
use sha2::Digest as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::super::oid;
use super::*;

/// A certificate that has some of everything.
fn real() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![
        rcgen::SanType::URI(CHECKOUT.try_into().unwrap()),
        rcgen::SanType::DnsName("a.example".try_into().unwrap()),
        rcgen::SanType::Rfc822Name("ann@acme.example".try_into().unwrap()),
        rcgen::SanType::IpAddress([10, 0, 0, 7].into()),
        rcgen::SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "ann@acme.example".into())),
    ];
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "acme");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// Parses with both. What we accept the other one accepts, with the same names and times.
fn compare(der: &[u8]) {
    let Ok(leaf) = Leaf::from_der(der) else {
        return;
    };
    let (rest, other) = X509Certificate::from_der(der).expect("accepted here, refused by x509-parser");
    assert!(rest.is_empty());
    assert_eq!(leaf.serial(), other.raw_serial());
    assert_eq!(leaf.not_before().0, other.validity().not_before.timestamp());
    assert_eq!(leaf.not_after().0, other.validity().not_after.timestamp());
    assert_eq!(leaf.is_ca(), other.is_ca());
    assert_eq!(leaf.signature_algorithm(), dotted(&other.signature_algorithm.algorithm));
    assert_eq!(*leaf.spki_sha256(), *sha2::Sha256::digest(other.public_key().raw));
    for (ours, theirs) in [(leaf.subject(), other.subject()), (leaf.issuer(), other.issuer())] {
        let theirs = theirs.iter_attributes().map(|attribute| dotted(attribute.attr_type()));
        assert!(theirs.eq(ours.attributes().iter().map(Attribute::oid)));
    }
    let names = other.subject_alternative_name().unwrap().map(|extension| extension.value.general_names.as_slice());
    let names = names.unwrap_or_default();
    assert_eq!(leaf.alternative_names().len(), names.len());
    for (ours, theirs) in leaf.alternative_names().iter().zip(names) {
        let same = match (ours, theirs) {
            (AlternativeName::Uri(ours), GeneralName::URI(theirs)) => ours == theirs,
            (AlternativeName::Dns(ours), GeneralName::DNSName(theirs)) => ours == theirs,
            (AlternativeName::Email(ours), GeneralName::RFC822Name(theirs)) => ours == theirs,
            (AlternativeName::Ip(IpAddr::V4(ours)), GeneralName::IPAddress(theirs)) => ours.octets() == **theirs,
            (AlternativeName::Ip(IpAddr::V6(ours)), GeneralName::IPAddress(theirs)) => ours.octets() == **theirs,
            (AlternativeName::Other { oid, .. }, GeneralName::OtherName(theirs, _)) => *oid == dotted(theirs),
            (AlternativeName::RegisteredId(ours), GeneralName::RegisteredID(theirs)) => *ours == dotted(theirs),
            (AlternativeName::Directory(_), GeneralName::DirectoryName(_)) => true,
            (AlternativeName::X400(_), GeneralName::X400Address(_)) => true,
            (AlternativeName::EdiParty(_), GeneralName::EDIPartyName(_)) => true,
            _ => false,
        };
        assert!(same, "{ours:?} is {theirs:?} to x509-parser");
    }
    assert!(leaf.identity().bytes().all(|byte| byte.is_ascii_graphic()));
}

/// By our code: that of `asn1-rs` has `3.0` for the bytes of `2.40`.
fn dotted(oid: &x509_parser::asn1_rs::Oid<'_>) -> String {
    oid::dotted(oid.as_bytes()).unwrap()
}

#[test]
fn every_change_of_one_byte_is_read_the_same_way_or_refused() {
    let der = real();
    compare(&der);
    for place in 0..der.len() {
        let flipped = (0..8).map(|bit| der[place] ^ 1 << bit);
        for value in flipped.chain([0x00, 0x30, 0x7f, 0x80, 0xff]) {
            let mut changed = der.clone();
            changed[place] = value;
            compare(&changed);
        }
    }
}

#[test]
fn a_part_of_a_certificate_is_not_one() {
    let der = real();
    for end in 0..der.len() {
        assert!(Leaf::from_der(&der[..end]).is_err(), "{end} bytes");
    }
}

/// Everything that can stand in a DNS name of a certificate, and may be no host at all.
fn dns_name() -> impl Strategy<Value = String> {
    "[ -~]{1,40}".prop_filter("an empty label", |name| !name.split('.').any(str::is_empty))
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        compare(&bytes);
        let _ = Leaf::from_pem(&bytes);
        let _ = Leaf::from_url_encoded_pem(&bytes);
    }

    #[test]
    fn several_changes_are_read_the_same_way_or_refused(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut der = Parts::named(&[(URI, CHECKOUT.as_bytes()), (IP, &[10, 0, 0, 7])]).encode();
        for (place, value) in changes {
            let place = place.index(der.len());
            der[place] = value;
        }
        compare(&der);
    }

    #[test]
    fn names_come_out_as_they_went_in(names in proptest::collection::vec(dns_name(), 1..20)) {
        let encoded: Vec<_> = names.iter().map(|name| (DNS, name.as_bytes())).collect();
        let leaf = parse(&Parts::named(&encoded)).unwrap();
        prop_assert!(leaf.dns_names().eq(names.iter().map(String::as_str)));
    }

    #[test]
    fn different_names_have_different_labels(one in dns_name(), other in dns_name(), uri: bool) {
        prop_assume!(one != other);
        let label = |name: &str, tag| parse(&Parts::named(&[(tag, name.as_bytes())])).unwrap().identity().to_owned();
        prop_assert_ne!(label(&one, DNS), label(&other, if uri { URI } else { DNS }));
    }
}
