//! What is read from certificates, what is refused, and that nothing else happens.

mod der;
mod names;
mod properties;
mod subjects;

use super::*;
use der::Parts;
use der::extension;
use der::oid;
use der::sequence;
use der::tlv;

const URI: u8 = 0x86;
const DNS: u8 = 0x82;
const EMAIL: u8 = 0x81;
const IP: u8 = 0x87;

const CHECKOUT: &str = "spiffe://acme.example/ns/pay/sa/checkout";

fn parse(parts: &Parts) -> Result<Leaf, CertificateError> {
    Leaf::from_der(&parts.encode())
}

#[test]
fn every_fact_of_a_certificate_is_read() {
    let mut parts = Parts::named(&[(URI, CHECKOUT.as_bytes()), (DNS, b"a.example"), (IP, &[10, 0, 0, 7])]);
    let client_auth = oid(&[0x2b, 6, 1, 5, 5, 7, 3, 2]);
    parts.extensions.push(extension(37, &sequence(&[client_auth])));
    parts.extensions.push(extension(35, &sequence(&[tlv(0x80, &[0xfe, 0xed])])));
    parts.extensions.push(extension(15, &tlv(0x03, &[7, 0x80])));
    parts.extensions.push(extension(19, &sequence(&[])));
    let leaf = parse(&parts).unwrap();

    assert_eq!(leaf.spiffe().map(SpiffeId::as_str), Some(CHECKOUT));
    assert_eq!(leaf.uris().collect::<Vec<_>>(), [CHECKOUT]);
    assert_eq!(leaf.dns_names().collect::<Vec<_>>(), ["a.example"]);
    assert_eq!(leaf.emails().count(), 0);
    assert_eq!(leaf.ips().collect::<Vec<_>>(), [IpAddr::from([10, 0, 0, 7])]);
    assert_eq!(leaf.issuer().single("cn"), Some("issuer"));
    assert!(leaf.subject().is_empty());
    assert_eq!(leaf.serial(), [0x0a, 0x0b]);
    assert_eq!(leaf.not_before(), UnixTime(1_795_341_600));
    assert_eq!(leaf.not_after(), UnixTime(1_795_341_600 + 24 * 60 * 60));
    assert_eq!(leaf.eku(), ["1.3.6.1.5.5.7.3.2"]);
    assert_eq!(leaf.authority_key_id(), Some(&[0xfe, 0xed][..]));
    assert!(leaf.key_usage().is_some_and(|usage| usage.digital_signature() && !usage.key_cert_sign()));
    assert!(!leaf.is_ca());
    assert_eq!(leaf.public_key(), &PublicKey::Ec { curve: "1.2.840.10045.3.1.7".into() });
    assert_eq!(leaf.signature_algorithm(), "1.2.840.10045.4.3.2");
}

#[test]
fn a_certificate_that_is_not_der_through_and_through_is_refused() {
    type Change = fn(&mut Parts);
    use CertificateError::Malformed;
    let cases: &[(&str, Change, CertificateError)] = &[
        ("something after the signature", |c| c.leftover = tlv(0x05, &[]), Malformed("certificate")),
        ("something after the extensions", |c| c.extensions.push(tlv(0x05, &[])), Malformed("extension")),
        ("explicit version 1", |c| c.version = tlv(0xa0, &[2, 1, 0]), CertificateError::Version),
        ("version 4", |c| c.version = tlv(0xa0, &[2, 1, 3]), CertificateError::Version),
        ("version 1 with extensions", |c| c.version.clear(), CertificateError::Version),
        ("version 2 with extensions", |c| c.version = tlv(0xa0, &[2, 1, 1]), CertificateError::Version),
        ("version of two bytes", |c| c.version = tlv(0xa0, &[2, 2, 0, 2]), CertificateError::Version),
        ("empty serial number", |c| c.serial = tlv(2, &[]), Malformed("serial number")),
        ("padded serial number", |c| c.serial = tlv(2, &[0, 1]), Malformed("serial number")),
        ("no serial number", |c| c.serial.clear(), Malformed("serial number")),
        ("length of the serial number in two bytes", |c| c.serial = vec![2, 0x81, 1, 7], Malformed("serial number")),
        ("serial number of indefinite length", |c| c.serial = vec![2, 0x80, 7, 0, 0], Malformed("serial number")),
        (
            "other algorithm inside",
            |c| c.inner_algorithm = sequence(&[oid(&[42])]),
            CertificateError::SignatureAlgorithm,
        ),
        ("issuer that is a string", |c| c.issuer = der::utf8("issuer"), Malformed("issuer")),
        ("subject with an empty set", |c| c.subject = sequence(&[tlv(0x31, &[])]), Malformed("subject")),
        ("no subject", |c| c.subject.clear(), Malformed("subject")),
        ("only one time", |c| c.validity = sequence(&[tlv(0x17, b"261122100000Z")]), Malformed("validity")),
        ("key info with leftovers", |c| c.key_info = leftover(&c.key_info), Malformed("public key")),
        ("unique identifier that is not bits", |c| c.unique_ids = tlv(0x81, &[]), Malformed("unique identifier")),
        ("signature with 9 unused bits", |c| c.signature = tlv(3, &[9, 1]), Malformed("signature")),
        (
            "an extension twice",
            |c| c.extensions.push(der::alternative_names(&[(DNS, b"b.example")])),
            CertificateError::DuplicateExtension("2.5.29.17".into()),
        ),
        (
            "an unknown extension twice",
            |c| c.extensions.extend([extension(99, b""), extension(99, b"")]),
            CertificateError::DuplicateExtension("2.5.29.99".into()),
        ),
        ("CA flag of 1", |c| c.extensions.push(extension(19, &[0x30, 3, 1, 1, 1])), Malformed("basic constraints")),
        ("CA flag and more", |c| c.extensions.push(extension(19, &[0x30, 0, 5, 0])), Malformed("basic constraints")),
        ("key usage with set padding", |c| c.extensions.push(extension(15, &[3, 2, 7, 0xff])), Malformed("key usage")),
        ("no purpose at all", |c| c.extensions.push(extension(37, &sequence(&[]))), Malformed("extended key usage")),
        (
            "purpose that is a string",
            |c| c.extensions.push(extension(37, &sequence(&[tlv(0x16, b"any")]))),
            Malformed("extended key usage"),
        ),
        (
            "issuer's key that is a number",
            |c| c.extensions.push(extension(35, &sequence(&[tlv(2, &[1])]))),
            Malformed("authority key identifier"),
        ),
    ];
    for (name, change, want) in cases {
        let mut parts = Parts::named(&[(DNS, b"a.example")]);
        change(&mut parts);
        assert_eq!(parse(&parts).unwrap_err(), *want, "{name}");
    }
}

/// The same element with another one inside it, at the end.
fn leftover(element: &[u8]) -> Vec<u8> {
    tlv(element[0], &[&element[2..], &[5, 0]].concat())
}

#[test]
fn bytes_around_the_certificate_are_refused() {
    let der = Parts::new().encode();
    assert_eq!(Leaf::from_der(&[&der[..], &[0]].concat()).unwrap_err(), CertificateError::TrailingBytes(1));
    assert_eq!(Leaf::from_der(&[]).unwrap_err(), CertificateError::Malformed("certificate"));
    assert_eq!(Leaf::from_der(&vec![0x30; 70_000]).unwrap_err(), CertificateError::TooLong { length: 70_000 });
}

#[test]
fn certificates_of_version_1_are_known_by_their_subject() {
    let subject = der::name(&[&[der::attribute(3, der::utf8("old"))]]);
    let leaf = parse(&Parts { version: Vec::new(), subject, ..Parts::new() }).unwrap();
    assert_eq!(leaf.identity(), "subject:CN=old");
}

#[test]
fn times_are_read_as_rfc_5280_writes_them() {
    let cases: &[(&str, u8, &[u8], Option<i64>)] = &[
        ("the last second of UTCTime", 0x17, b"491231235959Z", Some(2_524_607_999)),
        ("the first year of UTCTime", 0x17, b"500101000000Z", Some(-631_152_000)),
        ("the epoch", 0x17, b"700101000000Z", Some(0)),
        ("no end: later than any timestamp of jiff", 0x18, b"99991231235959Z", Some(253_402_300_799)),
        ("GeneralizedTime where UTCTime would do", 0x18, b"20261122100000Z", Some(1_795_341_600)),
        ("a leap day", 0x17, b"240229000000Z", Some(1_709_164_800)),
        ("not a leap year", 0x17, b"250229000000Z", None),
        ("no seconds", 0x17, b"2611221000Z", None),
        ("an offset", 0x17, b"261122100000+0100", None),
        ("no zone", 0x17, b"261122100000", None),
        ("a fraction", 0x18, b"20261122100000.5Z", None),
        ("a leap second", 0x17, b"261231235960Z", None),
        ("a sign for a digit", 0x17, b"26112210000+Z", None),
        ("four digits of the year in UTCTime", 0x17, b"20261122100000Z", None),
        ("another type", 0x0c, b"261122100000Z", None),
    ];
    for &(name, tag, text, want) in cases {
        let not_before = tlv(0x17, b"000101000000Z");
        let parts = Parts { validity: sequence(&[not_before, tlv(tag, text)]), ..Parts::new() };
        assert_eq!(parse(&parts).ok().map(|leaf| leaf.not_after().0), want, "{name}");
    }
}

#[test]
fn keys_have_a_kind_and_a_size() {
    let rsa = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
    let numbers = sequence(&[tlv(2, &[&[0, 0x80][..], &[1; 255]].concat()), tlv(2, &[1, 0, 1])]);
    let rsa = sequence(&[sequence(&[rsa, tlv(5, &[])]), tlv(3, &[&[0][..], &numbers].concat())]);
    let ed25519 = sequence(&[sequence(&[oid(&[0x2b, 0x65, 0x70])]), tlv(3, &[0; 33])]);
    let cases = [
        ("RSA", rsa, PublicKey::Rsa { bits: 2048 }),
        ("Ed25519", ed25519, PublicKey::Other { algorithm: "1.3.101.112".into() }),
    ];
    for (name, key_info, want) in cases {
        let leaf = parse(&Parts { key_info, ..Parts::new() }).unwrap();
        assert_eq!(*leaf.public_key(), want, "{name}");
    }
}

#[test]
fn pem_is_one_block_and_nothing_else() {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let unix = pem.replace("\r\n", "\n");
    let body = unix.split_inclusive('\n').skip(1).take(1).collect::<String>();

    let cases = [
        ("as it is", unix.clone(), true),
        ("with carriage returns", unix.replace('\n', "\r\n"), true),
        ("white space around it", format!("\n {unix} \n"), true),
        ("twice", unix.repeat(2), false),
        ("text before it", format!("subject=CN\n{unix}"), false),
        ("text after it", format!("{unix}x"), false),
        ("a key", unix.replace("CERTIFICATE", "PRIVATE KEY"), false),
        ("the old label", unix.replace("CERTIFICATE", "X509 CERTIFICATE"), false),
        ("a header", unix.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1), false),
        ("all on one line", unix.replace('\n', ""), false),
        ("a line missing", unix.replace(&body, ""), false),
        ("base64url", unix.replace(['+', '/'], "-"), unix.matches(['+', '/']).count() == 0),
        ("a NUL inside", unix.replacen('\n', "\n\0", 1), false),
        ("nothing inside", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".into(), false),
        ("empty", String::new(), false),
        ("too long", format!("{unix}{}", " ".repeat(1 << 17)), false),
    ];
    for (name, text, want) in cases {
        assert_eq!(Leaf::from_pem(text.as_bytes()).is_ok(), want, "{name}");
    }
}

#[test]
fn url_encoded_pem_is_decoded_once() {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let want = *Leaf::from_pem(pem.as_bytes()).unwrap().sha256();

    // What Envoy escapes, and what an encoder of everything does.
    let envoy = pem.replace("\r\n", "\n").replace('\n', "%0A").replace(' ', "%20");
    let envoy = envoy.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let everything: String = pem.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for (name, text) in [("as Envoy does", &envoy), ("every byte", &everything), ("no byte", &pem)] {
        assert_eq!(Leaf::from_url_encoded_pem(text.as_bytes()).unwrap().sha256(), &want, "{name}");
    }

    let twice = envoy.replace('%', "%25");
    assert_eq!(Leaf::from_url_encoded_pem(twice.as_bytes()).unwrap_err(), CertificateError::Pem);
    for (text, place) in [("%", 0), ("ab%2", 2), ("a%zz", 1), ("%0A%%", 3), ("%+1", 0)] {
        let error = Leaf::from_url_encoded_pem(text.as_bytes()).unwrap_err();
        assert_eq!(error, CertificateError::BadEscape(place), "{text}");
    }
}
