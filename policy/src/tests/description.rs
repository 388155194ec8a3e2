//! Descriptions of certificates: what a record says of one is what policies ask of it.

use super::*;

/// Roles of each kind of condition.
const POLICY: &str = r#"{"version": 1, "roles": {
    "spiffe": [{"spiffe": "spiffe://t/ns/{ns}/sa/*"}],
    "uri": [{"uri": "https://a.t/"}],
    "dns": [{"dns": "*.a.t"}],
    "email": [{"email": "me@A.t"}],
    "ip": [{"ip": "10.0.0.0/8"}],
    "subject": [{"subject": {"ou": "caf\u00e9 \"1\""}}],
    "issuer": [{"issuer": {"cn": "ca", "key_id": "0a:0b"}}],
    "serial": [{"serial": "07"}],
    "sha256": [{"sha256": "0101010101010101010101010101010101010101010101010101010101010101"}],
    "spki": [{"spki_sha256": "0202020202020202020202020202020202020202020202020202020202020202"}],
    "eku": [{"eku": ["client_auth"]}],
    "oid": [{"oid": ["1.2.3.4"]}],
    "no-oid": [{"not": {"oid": ["1.2.3.4"]}}],
    "key": [{"key": {"type": "ec", "min_bits": 256}}],
    "short": [{"max_lifetime": "2h"}]
}, "rules": []}"#;

fn facts() -> Synthetic {
    let oid = |name: &str| crate::DistinguishedName::attribute_oid(name).unwrap().to_owned();
    Synthetic {
        alternative_names: vec![
            AlternativeName::Dns("X.a.t".to_owned()),
            AlternativeName::Dns("y.a.t".to_owned()),
            AlternativeName::Email("me@a.t".to_owned()),
            AlternativeName::Ip([10, 0, 0, 7].into()),
        ],
        subject: vec![(oid("ou"), "caf\u{e9} \"1\"".to_owned())],
        issuer: vec![(oid("cn"), "ca".to_owned())],
        eku: vec![Leaf::eku_oid("client_auth").unwrap().to_owned()],
        authority_key_id: Some(Box::new([10, 11])),
        ..unnamed()
    }
}

fn curve(curve: &str) -> crate::PublicKey {
    crate::PublicKey::Ec { curve: curve.to_owned() }
}

#[test]
fn a_described_certificate_is_to_every_policy_what_it_was() {
    let policy = policy(POLICY);
    let uri = |uri: &str| vec![AlternativeName::Uri(uri.to_owned())];
    let cases = [
        ("names", facts()),
        ("no names", unnamed()),
        ("a policy", Synthetic { policies: Some(vec!["1.2.3.4".to_owned()]), ..unnamed() }),
        ("another policy", Synthetic { policies: Some(vec!["1.2.3.5".to_owned()]), ..unnamed() }),
        ("a key on a curve", Synthetic { public_key: curve("1.2.840.10045.3.1.7"), ..unnamed() }),
        ("an RSA key", Synthetic { public_key: crate::PublicKey::Rsa { bits: 2048 }, ..unnamed() }),
        ("a SPIFFE ID", Synthetic { alternative_names: uri("spiffe://t/ns/a/sa/b"), ..unnamed() }),
        ("another URI", Synthetic { alternative_names: uri("https://a.t/"), ..unnamed() }),
        (
            "two SPIFFE IDs are none",
            Synthetic {
                alternative_names: [uri("spiffe://t/ns/a/sa/b"), uri("spiffe://t/ns/a/sa/c")].concat(),
                ..unnamed()
            },
        ),
        ("an attribute twice", Synthetic { subject: [facts().subject, facts().subject].concat(), ..unnamed() }),
        ("no end", Synthetic { not_after: UnixTime(253_402_300_799), ..unnamed() }),
        ("a serial number of zero", Synthetic { serial: Box::new([]), ..unnamed() }),
    ];
    for (name, facts) in cases {
        let leaf = facts.leaf();
        let description = serde_json::to_string(&leaf.describe().unwrap_or_else(|| panic!("{name}"))).unwrap();
        let again = Leaf::described(&description).unwrap_or_else(|error| panic!("{name}: {description}: {error}"));
        let again = again.unwrap_or_else(|| panic!("{name}"));
        assert_eq!(
            policy.subject(leaf.clone()).roles(),
            policy.subject(again.clone()).roles(),
            "{name}: {description}"
        );
        if name != "an attribute twice" {
            assert_eq!(leaf.identity(), again.identity(), "{name}: {description}");
        }
        assert_eq!((leaf.not_before(), leaf.not_after()), (again.not_before(), again.not_after()), "{name}");
    }
}

#[test]
fn what_cannot_be_described_as_a_whole_is_not_described() {
    let many = |count: usize| (0..count).map(|n| AlternativeName::Dns(format!("{n}.a.t"))).collect();
    let described = |names| Synthetic { alternative_names: names, ..unnamed() }.leaf().describe().is_some();
    assert!(described(many(16)));
    assert!(!described(many(17)));
    assert!(described(vec![AlternativeName::Dns("a".repeat(256))]));
    assert!(!described(vec![AlternativeName::Dns("a".repeat(257))]));
    assert!(Synthetic { public_key: curve("1.2.3"), ..unnamed() }.leaf().describe().is_none());
    assert!(!described(vec![AlternativeName::RegisteredId("1.2.3".to_owned())]));
}

#[test]
fn a_description_may_say_that_there_was_no_certificate() {
    assert!(Leaf::described(r#""none""#).is_ok_and(|leaf| leaf.is_none()));
    let error = Leaf::described(r#"{"not_after": "tomorrow"}"#).unwrap_err();
    assert_eq!(error.path(), "not_after");
}
