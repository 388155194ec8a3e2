//! Names in certificates that are nearly the right ones. The pairs of kinds that no TLS library would mix up are in the
//! table of `four_ways`; here are certificates that a handshake might not even survive.

use portcullis_integration::certificates::LeafBuilder;
use portcullis_integration::wasm_host::Connection;
use rcgen::DnType;
use rcgen::DnValue;
use serde_json::Value;
use serde_json::json;

use crate::gate::CHECKOUT;
use crate::gate::answer;
use crate::gate::assert_alive;
use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::policy;

fn with_reader(reader: Value) -> Value {
    let mut policy = policy();
    policy["roles"]["reader"] = reader;
    policy
}

#[test]
fn a_name_that_cannot_be_read_makes_the_whole_certificate_unreadable() {
    const URI: u8 = 0x86;
    const DNS: u8 = 0x82;
    const IP: u8 = 0x87;
    let cases: Vec<(&str, LeafBuilder<'_>)> = vec![
        ("a NUL in a URI", leaf().uri(CHECKOUT).uri("urn:a\0b")),
        ("a NUL behind the name", leaf().uri(format!("{CHECKOUT}\0"))),
        ("a line feed", leaf().uri(CHECKOUT).dns("a\nb.example")),
        ("UTF-8 in a DNS name", leaf().uri(CHECKOUT).dns("b\u{fc}cher.example")),
        ("UTF-8 in a URI", leaf().uri(CHECKOUT).uri("urn:b\u{fc}cher")),
        ("an empty DNS name", leaf().uri(CHECKOUT).name(DNS, b"")),
        ("a dot at the end of a DNS name", leaf().uri(CHECKOUT).dns("a.example.")),
        ("two dots in a DNS name", leaf().uri(CHECKOUT).dns("a..example")),
        ("an empty URI beside", leaf().uri(CHECKOUT).name(URI, b"")),
        ("an address of five bytes", leaf().uri(CHECKOUT).name(IP, [10, 0, 0, 1, 0])),
        ("an address with its mask", leaf().uri(CHECKOUT).name(IP, [10, 0, 0, 1, 255, 0, 0, 0])),
    ];
    let mut vm = gate();
    for (name, builder) in cases {
        let outcome = get(&mut vm, &Connection::mtls(&builder.issue()), "/orders/1");
        assert_eq!(answer(&outcome), (401, "certificate_unreadable".to_owned()), "{name}");
    }
    assert_alive(&mut vm);
}

#[test]
fn each_kind_of_name_counts_as_itself_alone() {
    // The text that a role asks for, the kind that it asks for, and a certificate with the text in every other kind.
    let text = "10.1.2.3";
    let everywhere = || leaf().subject(DnType::CommonName, text).other_name(&[0x2a, 3, 4], text);
    let cases: Vec<(&str, Value, LeafBuilder<'_>, u16)> = vec![
        ("an address", json!({ "ip": text }), everywhere().dns(text).uri(text).email(text), 403),
        ("a DNS name", json!({ "dns": "a.example" }), leaf().uri("a.example").email("a.example"), 403),
        (
            "a URI",
            json!({ "uri": "urn:a" }),
            leaf().dns("urn:a").email("urn:a").other_name(&[0x2a, 3, 4], "urn:a"),
            403,
        ),
        (
            "an e-mail address",
            json!({ "email": "a@b.example" }),
            leaf().dns("a@b.example").uri("a@b.example").subject(DnType::CommonName, "a@b.example"),
            403,
        ),
        ("a subject", json!({ "subject": { "cn": "a.example" } }), leaf().dns("a.example").uri("a.example"), 403),
        ("a subject that is there", json!({ "subject": { "cn": "a" } }), leaf().subject(DnType::CommonName, "a"), 200),
    ];
    for (name, member, builder, expected) in cases {
        let mut vm = gate_with(&with_reader(json!([member])));
        let outcome = get(&mut vm, &Connection::mtls(&builder.issue()), "/orders/1");
        assert_eq!(outcome.status(), Some(expected), "{name}: {:?}", answer(&outcome));
    }
}

#[test]
fn an_attribute_is_its_text_in_whatever_string_type_and_only_alone() {
    let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
    let unit = || DnType::OrganizationalUnitName;
    let cases: Vec<(&str, LeafBuilder<'_>, u16)> = vec![
        ("UTF-8", leaf().subject(unit(), "payments"), 200),
        ("printable", leaf().subject(unit(), printable("payments")), 200),
        ("before the name", leaf().subject(unit(), "payments").subject(DnType::CommonName, "a"), 200),
        ("after the name", leaf().subject(DnType::CommonName, "a").subject(unit(), "payments"), 200),
        ("in one RDN with the name", leaf().subject(DnType::CommonName, "a").subject_beside(unit(), "payments"), 403),
        (
            "alone, after an RDN of two",
            leaf()
                .subject(DnType::CommonName, "a")
                .subject_beside(DnType::OrganizationName, "Acme")
                .subject(unit(), "payments"),
            200,
        ),
        ("twice", leaf().subject(unit(), "payments").subject(DnType::CustomDnType(vec![2, 5, 4, 11]), "payments"), 403),
        ("with a comma", leaf().subject(unit(), "payments,CN=admin"), 403),
        ("with an escaped comma", leaf().subject(unit(), "payments\\,CN=admin"), 403),
        ("with a plus", leaf().subject(unit(), "payments+CN=admin"), 403),
        ("with a blank behind", leaf().subject(unit(), "payments "), 403),
        ("with a NUL behind", leaf().subject(unit(), "payments\0"), 403),
        ("inside another attribute", leaf().subject(DnType::OrganizationName, "Acme, OU=payments"), 403),
    ];
    let mut vm = gate_with(&with_reader(json!([{ "subject": { "ou": "payments" } }])));
    for (name, builder, expected) in cases {
        let outcome = get(&mut vm, &Connection::mtls(&builder.issue()), "/orders/1");
        // What is no name at all may make the whole certificate unreadable.
        let fits = outcome.status() == Some(expected) || (expected == 403 && outcome.status() == Some(401));
        assert!(fits, "{name}: {:?}", answer(&outcome));
    }
}
