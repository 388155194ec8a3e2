//! Distinguished names: one text whatever the string type, no answer where there are two.

use super::der::Parts;
use super::der::attribute;
use super::der::name;
use super::der::tlv;
use super::der::utf8;
use super::*;

const CN: u8 = 3;
const O: u8 = 10;
const OU: u8 = 11;

/// Attributes in their sets.
type Groups<'a> = &'a [&'a [Vec<u8>]];

fn subject(groups: Groups<'_>) -> DistinguishedName {
    parse(&Parts { subject: name(groups), ..Parts::new() }).unwrap().subject().clone()
}

#[test]
fn an_attribute_has_one_text_in_every_string_type() {
    let cases: &[(&str, Vec<u8>, Option<&str>)] = &[
        ("UTF8String", utf8("Zo\u{eb}"), Some("Zo\u{eb}")),
        ("TeletexString", tlv(0x14, b"Zo\xeb"), Some("Zo\u{eb}")),
        ("BMPString", tlv(0x1e, &[0, b'Z', 0, b'o', 0, 0xeb]), Some("Zo\u{eb}")),
        ("UniversalString", tlv(0x1c, &[0, 0, 0, b'Z', 0, 0, 0, b'o', 0, 0, 0, 0xeb]), Some("Zo\u{eb}")),
        ("PrintableString", tlv(0x13, b"payments"), Some("payments")),
        ("PrintableString with what it may not hold", tlv(0x13, b"*@_"), Some("*@_")),
        ("IA5String", tlv(0x16, b"payments"), Some("payments")),
        ("NumericString", tlv(0x12, b"42"), Some("42")),
        ("VisibleString", tlv(0x1a, b"payments"), Some("payments")),
        ("empty", utf8(""), Some("")),
        ("Latin-1 in a PrintableString", tlv(0x13, b"Zo\xeb"), None),
        ("UTF8String that is not", tlv(0x0c, b"Zo\xeb"), None),
        ("overlong UTF-8", tlv(0x0c, b"\xc0\xaf"), None),
        ("BMPString of three bytes", tlv(0x1e, b"abc"), None),
        ("BMPString with a surrogate", tlv(0x1e, &[0xd8, 0]), None),
        ("UniversalString out of range", tlv(0x1c, &[0, 0x11, 0, 0]), None),
        ("NUL", utf8("admin\0x"), None),
        ("line feed", utf8("admin\nx"), None),
        ("a number", tlv(2, &[7]), None),
    ];
    for (case, value, want) in cases {
        assert_eq!(subject(&[&[attribute(CN, value.clone())]]).single("cn"), *want, "{case}");
    }
}

#[test]
fn an_attribute_that_is_not_there_once_and_alone_has_no_text() {
    let cn = || attribute(CN, utf8("ann"));
    let ou = || attribute(OU, utf8("payments"));
    let cases: &[(&str, Groups<'_>, Option<&str>, Option<&str>)] = &[
        ("each once", &[&[ou()], &[cn()]], Some("ann"), Some("payments")),
        ("in the other order", &[&[cn()], &[ou()]], Some("ann"), Some("payments")),
        ("absent", &[&[ou()]], None, Some("payments")),
        ("twice, the same", &[&[cn()], &[cn()], &[ou()]], None, Some("payments")),
        ("twice, one of them not text", &[&[attribute(CN, tlv(2, &[7]))], &[cn()]], None, None),
        ("both in one set", &[&[cn(), ou()]], None, None),
        ("one of them in a set with a third", &[&[cn(), attribute(O, utf8("acme"))], &[ou()]], None, Some("payments")),
        ("once alone and once in a set", &[&[cn()], &[cn(), ou()]], None, None),
        (
            "the other's text within a value",
            &[&[attribute(CN, utf8("ann,OU=payments"))]],
            Some("ann,OU=payments"),
            None,
        ),
    ];
    for (case, groups, cn, ou) in cases {
        let subject = subject(groups);
        assert_eq!(subject.single("cn"), *cn, "{case}");
        assert_eq!(subject.single("2.5.4.3"), *cn, "{case}");
        assert_eq!(subject.single("ou"), *ou, "{case}");
    }
    assert_eq!(subject(&[&[cn()]]).single("CN"), None, "names of attributes are lower-case");
    assert_eq!(subject(&[&[cn()]]).single("no.such"), None);
}

#[test]
fn a_subject_is_written_as_rfc_4514_says() {
    let cases: &[(&str, Groups<'_>, &str)] = &[
        ("the last first", &[&[attribute(O, utf8("acme"))], &[attribute(CN, utf8("ann"))]], "CN=ann,O=acme"),
        ("two in a set", &[&[attribute(CN, utf8("ann")), attribute(OU, utf8("pay"))]], "CN=ann+OU=pay"),
        ("special characters", &[&[attribute(CN, utf8(r#"a,b+c"d\e<f>g;h=i"#))]], r#"CN=a\,b\+c\"d\\e\<f\>g\;h=i"#),
        ("spaces at the ends", &[&[attribute(CN, utf8(" a b "))]], r"CN=\ a b\ "),
        ("a single space", &[&[attribute(CN, utf8(" "))]], r"CN=\ "),
        ("a hash in front", &[&[attribute(CN, utf8("#1#"))]], r"CN=\#1#"),
        ("a type without a name", &[&[attribute(97, utf8("a"))]], "2.5.4.97=#0c0161"),
        ("a value that is not text", &[&[attribute(CN, tlv(2, &[7]))]], "2.5.4.3=#020107"),
        ("nothing", &[], ""),
    ];
    for (case, groups, want) in cases {
        assert_eq!(subject(groups).to_string(), *want, "{case}");
        assert!(subject(groups).is_written(want), "{case}, read again");
    }
}

#[test]
fn a_name_is_known_by_what_others_write() {
    let zoe =
        subject(&[&[attribute(O, utf8("acme, inc"))], &[attribute(CN, utf8("Zo\u{eb}")), attribute(OU, utf8("pay"))]]);
    let cases = [
        ("as it is", "CN=Zo\u{eb}+OU=pay,O=acme\\, inc", true),
        ("beyond ASCII in hexadecimal digits", r"CN=Zo\C3\ab+OU=pay,O=acme\, inc", true),
        ("a character escaped without need", r"CN=\Zo\C3\AB+OU=pay,O=acme\2C inc", true),
        ("names of types in any case", "cn=Zo\u{eb}+ou=pay,o=acme\\, inc", true),
        ("a type in dotted form", "2.5.4.3=Zo\u{eb}+OU=pay,O=acme\\, inc", true),
        ("a value as its DER", "CN=#0c045a6fc3ab+OU=pay,O=acme\\, inc", true),
        ("its first group only", "CN=Zo\u{eb}+OU=pay", false),
        ("its last group only", "O=acme\\, inc", false),
        ("the groups the other way round", "O=acme\\, inc,CN=Zo\u{eb}+OU=pay", false),
        ("three groups", "CN=Zo\u{eb},OU=pay,O=acme\\, inc", false),
        ("something after it", "CN=Zo\u{eb}+OU=pay,O=acme\\, inc,", false),
        ("more of a value", "CN=Zo\u{eb}+OU=pay,O=acme\\, inc.", false),
        ("less of a value", "CN=Zo\u{eb}+OU=pay,O=acme\\, in", false),
        ("other DER", "CN=#0c045a6fc3ac+OU=pay,O=acme\\, inc", false),
        ("DER cut off", "CN=#0c045a6f+OU=pay,O=acme\\, inc", false),
        ("an escape cut off", "CN=Zo\u{eb}+OU=pay,O=acme\\", false),
        ("an unknown type", "X=Zo\u{eb}+OU=pay,O=acme\\, inc", false),
        ("nothing", "", false),
    ];
    for (case, text, want) in cases {
        assert_eq!(zoe.is_written(text), want, "{case}");
    }
    assert!(subject(&[&[attribute(12, utf8("boss"))]]).is_written("title=boss"));
    assert!(!subject(&[]).is_written(","));
}

#[test]
fn a_subject_label_fits_into_a_header() {
    let cases = [
        ("a space", "Ann Lee", "subject:CN=Ann%20Lee"),
        ("beyond ASCII", "Zo\u{eb}", "subject:CN=Zo%C3%AB"),
        ("a per cent sign", "100%", "subject:CN=100%25"),
    ];
    for (case, text, want) in cases {
        let subject = name(&[&[attribute(CN, utf8(text))]]);
        assert_eq!(parse(&Parts { subject, ..Parts::new() }).unwrap().identity(), want, "{case}");
    }
    let nobody = parse(&Parts::new()).unwrap();
    assert_eq!(nobody.identity(), format!("sha256:{}", crate::hex::Hex(nobody.sha256())));
}

#[test]
fn object_identifiers_have_one_text() {
    let uuid = [&[0x69][..], &[0x83, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0xff; 7], &[0x7f]];
    let cases: &[(&str, &[u8], Option<&str>)] = &[
        ("the smallest", &[0], Some("0.0")),
        ("the last of the first root", &[39], Some("0.39")),
        ("the second root", &[40], Some("1.0")),
        ("the third root has no end", &[0x88, 0x37], Some("2.999")),
        ("an arc of 128 bits", &uuid.concat(), Some("2.25.340282366920938463463374607431768211455")),
        ("an arc of more", &[&[0x69, 0x84][..], &[0x80; 17], &[0]].concat(), None),
        ("nothing", &[], None),
        ("cut short", &[0x2a, 0x86], None),
        ("padding", &[0x2a, 0x80, 0x01], None),
    ];
    for (case, contents, want) in cases {
        assert_eq!(oid::dotted(contents).as_deref(), *want, "{case}");
    }
    for good in ["2.5.4.3", "0.0", "1.39.0", "2.999"] {
        assert_eq!(DistinguishedName::attribute_oid(good), Some(good));
    }
    for bad in ["", "2", "2.", ".2", "2..3", "3.1", "02.5", "2.05", "2.5.4.+3", "2.5.4.x", "25.4"] {
        assert_eq!(DistinguishedName::attribute_oid(bad), None, "{bad}");
    }
    assert_eq!(Leaf::eku_oid("client_auth"), Some("1.3.6.1.5.5.7.3.2"));
}
