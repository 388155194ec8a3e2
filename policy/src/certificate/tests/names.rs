//! Alternative names: which kinds there are, which identity they give, which characters refuse the certificate.

use super::der::Parts;
use super::der::attribute;
use super::der::extension;
use super::der::name;
use super::der::oid;
use super::der::sequence;
use super::der::tlv;
use super::der::utf8;
use super::*;

/// Tags and contents.
type Names<'a> = &'a [(u8, &'a [u8])];

/// 1.3.6.1.4.1.311.20.2.3 (a user principal name) and its value.
fn principal_name(value: Vec<u8>) -> Vec<u8> {
    [oid(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3]), tlv(0xa0, &value)].concat()
}

#[test]
fn names_give_one_identity() {
    let directory = name(&[&[attribute(3, utf8("admin"))]]);
    let upn = principal_name(utf8("ann@acme.example"));
    let upn_that_is_a_number = principal_name(tlv(2, &[7]));
    let bad_spiffe = b"spiffe://acme.example/../admin";
    let hash = "sha256:";
    let cases: &[(&str, Names<'_>, &str)] = &[
        ("a SPIFFE ID", &[(URI, CHECKOUT.as_bytes())], CHECKOUT),
        ("a SPIFFE ID beside other kinds", &[(DNS, b"a.example"), (URI, CHECKOUT.as_bytes())], CHECKOUT),
        ("two URIs, the SPIFFE ID first", &[(URI, CHECKOUT.as_bytes()), (URI, b"urn:x")], hash),
        ("two URIs, the SPIFFE ID last", &[(URI, b"urn:x"), (URI, CHECKOUT.as_bytes())], hash),
        ("one SPIFFE ID twice", &[(URI, CHECKOUT.as_bytes()), (URI, CHECKOUT.as_bytes())], hash),
        ("a SPIFFE ID as DNS name", &[(DNS, CHECKOUT.as_bytes())], "dns:spiffe://acme.example/ns/pay/sa/checkout"),
        ("a SPIFFE ID as e-mail", &[(EMAIL, CHECKOUT.as_bytes())], "email:spiffe://acme.example/ns/pay/sa/checkout"),
        ("not quite a SPIFFE ID", &[(URI, bad_spiffe)], "uri:spiffe://acme.example/../admin"),
        ("only a trust domain", &[(URI, b"spiffe://acme.example")], "uri:spiffe://acme.example"),
        ("another URI", &[(URI, b"https://a.example/x?y#z")], "uri:https://a.example/x?y#z"),
        ("a URI that forges an XFCC element", &[(URI, b"urn:a,URI=urn:b;\"")], "uri:urn:a,URI=urn:b;\""),
        ("a URI with a space", &[(URI, b"urn:a b")], "uri:urn:a%20b"),
        ("a URI with an escaped space", &[(URI, b"urn:a%20b")], "uri:urn:a%2520b"),
        ("a DNS name", &[(DNS, b"A.example")], "dns:A.example"),
        ("a wildcard", &[(DNS, b"*.example")], "dns:*.example"),
        ("an IP address as DNS name", &[(DNS, b"10.0.0.7")], "dns:10.0.0.7"),
        ("an e-mail address", &[(EMAIL, b"ann@acme.example")], "email:ann@acme.example"),
        ("an IPv4 address", &[(IP, &[10, 0, 0, 7])], "ip:10.0.0.7"),
        ("an IPv6 address", &[(IP, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])], "ip:::1"),
        ("a user principal name", &[(0xa0, &upn)], "other:1.3.6.1.4.1.311.20.2.3:ann@acme.example"),
        ("another value of it", &[(0xa0, &upn_that_is_a_number)], "other:1.3.6.1.4.1.311.20.2.3:#020107"),
        ("two names", &[(DNS, b"a.example"), (DNS, b"b.example")], hash),
        ("a directory name", &[(0xa4, &directory)], hash),
        ("a registered identifier", &[(0x88, &[42, 3])], hash),
        ("an X.400 address", &[(0xa3, &[])], hash),
        ("an EDI party name", &[(0xa5, &[])], hash),
    ];
    for &(name, names, want) in cases {
        // The subject never stands in for a name, even if the name is of no use.
        let subject = der::name(&[&[attribute(3, utf8("admin"))]]);
        let leaf = parse(&Parts { subject, ..Parts::named(names) }).unwrap();
        if want == hash {
            assert_eq!(leaf.identity(), format!("sha256:{}", crate::hex::Hex(leaf.sha256())), "{name}");
        } else {
            assert_eq!(leaf.identity(), want, "{name}");
        }
        assert_eq!(leaf.spiffe().is_some(), want.starts_with("spiffe://"), "{name}");
        assert_eq!(leaf.alternative_names().len(), names.len(), "{name}");
    }
}

#[test]
fn each_kind_is_found_under_its_own_name_only() {
    type Count = fn(&Leaf) -> usize;
    let kinds: [(&str, u8, Count); 3] = [
        ("uri", URI, |leaf| leaf.uris().count()),
        ("dns", DNS, |leaf| leaf.dns_names().count()),
        ("email", EMAIL, |leaf| leaf.emails().count()),
    ];
    for (written, tag, _) in kinds {
        let leaf = parse(&Parts::named(&[(tag, b"same.text@acme.example")])).unwrap();
        for (read, _, count) in kinds {
            assert_eq!(count(&leaf), usize::from(read == written), "{written} read as {read}");
        }
        assert_eq!(leaf.ips().count(), 0, "{written} read as ip");
        assert_eq!(leaf.subject().single("cn"), None, "{written} read as subject");
    }
}

#[test]
fn a_name_that_could_be_read_in_two_ways_refuses_the_certificate() {
    use CertificateError::Malformed;
    let malformed = Malformed("subject alternative name");
    let character = |index, byte| CertificateError::NameCharacter { index, byte };
    let address = |length| CertificateError::AddressLength { index: 0, length };
    let upn_and_more = [principal_name(utf8("a")), tlv(5, &[])].concat();
    let two_values = principal_name([utf8("a"), utf8("b")].concat());
    let cases: &[(&str, Names<'_>, CertificateError)] = &[
        ("NUL in a DNS name", &[(DNS, b"a.example\0.evil")], character(0, 0)),
        ("NUL at the end of a URI", &[(URI, b"spiffe://acme.example/a\0")], character(0, 0)),
        ("NUL in an e-mail address", &[(EMAIL, b"a@acme.example\0")], character(0, 0)),
        ("line feed in a URI", &[(URI, b"urn:a\nx-portcullis-identity: b")], character(0, b'\n')),
        ("delete", &[(DNS, b"a\x7f")], character(0, 0x7f)),
        ("UTF-8 in a DNS name", &[(DNS, "b\u{fc}cher.example".as_bytes())], character(0, 0xc3)),
        ("Latin-1 in an e-mail address", &[(EMAIL, b"b\xfc@acme.example")], character(0, 0xfc)),
        ("overlong slash in a URI", &[(URI, b"spiffe://acme.example\xc0\xafadmin")], character(0, 0xc0)),
        ("only the second name", &[(DNS, b"a.example"), (DNS, b"\0")], character(1, 0)),
        ("empty DNS name", &[(DNS, b"")], CertificateError::EmptyName { index: 0 }),
        ("a DNS name with a dot at the end", &[(DNS, b"a.example.")], CertificateError::EmptyLabel { index: 0 }),
        ("a DNS name with a dot in front", &[(DNS, b".a.example")], CertificateError::EmptyLabel { index: 0 }),
        ("a DNS name with two dots", &[(URI, b"urn:a"), (DNS, b"a..b")], CertificateError::EmptyLabel { index: 1 }),
        ("a dot for a DNS name", &[(DNS, b".")], CertificateError::EmptyLabel { index: 0 }),
        ("empty URI after a good one", &[(URI, b"urn:a"), (URI, b"")], CertificateError::EmptyName { index: 1 }),
        ("address of no bytes", &[(IP, &[])], address(0)),
        ("address with a mask", &[(IP, &[10, 0, 0, 0, 255, 0, 0, 0])], address(8)),
        ("address as text", &[(IP, b"10.0.0.7")], address(8)),
        ("other name without a value", &[(0xa0, &[6, 1, 42])], malformed.clone()),
        ("other name with something after it", &[(0xa0, &upn_and_more)], malformed.clone()),
        ("other name with two values", &[(0xa0, &two_values)], malformed.clone()),
        ("directory name that is a string", &[(0xa4, &utf8("CN=a"))], malformed.clone()),
        ("registered identifier cut short", &[(0x88, &[0x2a, 0x86])], malformed.clone()),
        ("registered identifier with padding", &[(0x88, &[0x2a, 0x80, 1])], malformed.clone()),
        ("a kind that does not exist", &[(0x89, b"a")], malformed.clone()),
        ("a constructed DNS name", &[(0xa2, b"a.example")], malformed.clone()),
        ("a universal string", &[(0x16, b"a.example")], malformed.clone()),
        ("no name", &[], malformed.clone()),
    ];
    for (name, names, want) in cases {
        assert_eq!(parse(&Parts::named(names)).unwrap_err(), *want, "{name}");
    }
}

#[test]
fn who_may_sign_certificates_is_nobody_in_spiffe() {
    let ca = extension(19, &sequence(&[tlv(1, &[0xff])]));
    let not_ca = extension(19, &sequence(&[tlv(1, &[0])]));
    let cases = [
        ("a CA", ca, false),
        ("expressly no CA", not_ca, true),
        ("a key that signs certificates", extension(15, &tlv(3, &[2, 0x84])), false),
        ("a key that signs revocation lists", extension(15, &tlv(3, &[1, 0x82])), false),
        ("a key that signs handshakes", extension(15, &tlv(3, &[7, 0x80])), true),
    ];
    for (name, extension, want) in cases {
        let mut parts = Parts::named(&[(URI, CHECKOUT.as_bytes())]);
        parts.extensions.push(extension);
        let leaf = parse(&parts).unwrap();
        assert_eq!(leaf.spiffe().is_some(), want, "{name}");
        assert_eq!(leaf.identity().starts_with("spiffe://"), want, "{name}");
    }
}

#[test]
fn a_thousand_names_are_all_read() {
    let names: Vec<_> = (0..1000).map(|number| format!("host-{number}.example")).collect();
    let encoded: Vec<_> = names.iter().map(|name| (DNS, name.as_bytes())).collect();
    let leaf = parse(&Parts::named(&encoded)).unwrap();
    assert!(leaf.dns_names().eq(names.iter().map(String::as_str)));
}
