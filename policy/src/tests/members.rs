//! Conditions of members that look at more than names, and `not`.

use super::*;
use crate::PublicKey;

const P384: &str = "1.3.132.0.34";

/// Whether a certificate holds a role by a member with these conditions.
fn holds(member: &str, certificate: Synthetic) -> bool {
    let text = format!(
        r#"{{"version": 1, "roles": {{"r": [{{{member}}}]}}, "rules": [{{"id": "a", "allow": ["r"], "paths": ["/"]}}]}}"#
    );
    let policy = policy(&text);
    let again = super::policy(&policy.to_json());
    assert_eq!((again.to_json(), again.version()), (policy.to_json(), policy.version()), "{member}");
    let subject = policy.subject(certificate.leaf());
    let decision = policy.decide(&request(presented(Some(&subject)), "GET", None, "/"));
    assert_eq!(decision.is_allowed(), subject.roles() == ["r"], "{member}");
    decision.is_allowed()
}

fn named(names: &[&str]) -> Synthetic {
    let names = names.iter().map(|name| match name.split_once(' ') {
        Some(("dns", name)) => AlternativeName::Dns(name.to_owned()),
        Some(("email", name)) => AlternativeName::Email(name.to_owned()),
        Some(("ip", name)) => AlternativeName::Ip(name.parse().unwrap()),
        _ => AlternativeName::Uri((*name).to_owned()),
    });
    Synthetic { alternative_names: names.collect(), ..unnamed() }
}

fn about(subject: &[(&str, &str)]) -> Synthetic {
    let own = |(oid, value): &(&str, &str)| ((*oid).to_owned(), (*value).to_owned());
    Synthetic { subject: subject.iter().map(own).collect(), ..unnamed() }
}

fn keyed(public_key: PublicKey) -> Synthetic {
    Synthetic { public_key, ..unnamed() }
}

fn with_policies(policies: &[&str]) -> Synthetic {
    Synthetic { policies: Some(policies.iter().map(|oid| (*oid).to_owned()).collect()), ..unnamed() }
}

fn lasting(seconds: i64) -> Synthetic {
    Synthetic { not_after: UnixTime(NOW.0 + seconds), not_before: NOW, ..unnamed() }
}

#[test]
fn keys_lifetimes_and_identifiers_are_asked_for() {
    let ec = |curve: &str| keyed(PublicKey::Ec { curve: curve.to_owned() });
    let rsa = |bits| keyed(PublicKey::Rsa { bits });
    let other = |algorithm: &str| keyed(PublicKey::Other { algorithm: algorithm.to_owned() });
    let cases = [
        ("a curve", r#""key": {"type": "ec"}"#, ec("1.2.3"), true),
        ("a curve is no RSA", r#""key": {"type": "rsa"}"#, ec(P384), false),
        ("a large curve", r#""key": {"type": "ec", "min_bits": 384}"#, ec(P384), true),
        ("a small curve", r#""key": {"type": "ec", "min_bits": 384}"#, unnamed(), false),
        ("a curve of unknown size", r#""key": {"type": "ec", "min_bits": 1}"#, ec("1.2.3"), false),
        ("RSA", r#""key": {"type": "rsa", "min_bits": 3072}"#, rsa(3072), true),
        ("small RSA", r#""key": {"type": "rsa", "min_bits": 3072}"#, rsa(3071), false),
        ("Ed25519", r#""key": {"type": "ed25519"}"#, other("1.3.101.112"), true),
        ("Ed448", r#""key": {"type": "ed25519"}"#, other("1.3.101.113"), false),
        ("not RSA", r#""not": {"key": {"type": "rsa"}}"#, ec(P384), true),
        ("not small", r#""not": {"key": {"type": "rsa", "min_bits": 3072}}"#, rsa(2048), true),
        ("not of a size that nobody knows", r#""not": {"key": {"type": "ec", "min_bits": 384}}"#, ec("1.2.3"), false),
        ("not of a kind that nobody knows", r#""not": {"key": {"type": "rsa"}}"#, other("1.2.3"), false),
        ("short", r#""max_lifetime": "1h""#, lasting(3600), true),
        ("too long", r#""max_lifetime": "60m""#, lasting(3601), false),
        ("for ever", r#""max_lifetime": "9999d""#, lasting(i64::MAX - NOW.0), false),
        ("not short", r#""not": {"max_lifetime": "1h"}"#, lasting(3601), true),
        ("a policy", r#""oid": ["1.3.6.1"]"#, with_policies(&["2.999", "1.3.6.1"]), true),
        ("all of two", r#""oid": ["1.3.6.1", "2.999"]"#, with_policies(&["2.999", "1.3.6.1"]), true),
        ("one of two", r#""oid": ["1.3.6.1", "2.999"]"#, with_policies(&["2.999"]), false),
        ("a longer one", r#""oid": ["1.3.6.1"]"#, with_policies(&["1.3.6.1.1", "1.3.6.10"]), false),
        ("no policy", r#""oid": ["1.3.6.1"]"#, unnamed(), false),
        ("not this policy", r#""not": {"oid": ["1.3.6.1"]}"#, with_policies(&["2.999"]), true),
        ("this policy", r#""not": {"oid": ["1.3.6.1"]}"#, with_policies(&["1.3.6.1"]), false),
        ("not, and no policy", r#""not": {"oid": ["1.3.6.1"]}"#, unnamed(), false),
    ];
    for (name, member, certificate, want) in cases {
        assert_eq!(holds(member, certificate), want, "{name}");
    }
}

/// `not` is about another name of the same kind. Who has none of that kind, or one that stands for many, is nobody's.
#[test]
fn what_is_missing_is_not_negated() {
    let cn = "2.5.4.3";
    let cases = [
        ("another DNS name", r#""not": {"dns": "a.t"}"#, named(&["dns b.t"]), true),
        ("the DNS name", r#""not": {"dns": "a.t"}"#, named(&["dns b.t", "dns A.t"]), false),
        ("a name of another kind", r#""not": {"dns": "a.t"}"#, named(&["urn:b", "email x@b.t"]), false),
        ("a wildcard that may be it", r#""not": {"dns": "a.t"}"#, named(&["dns *.t"]), false),
        ("another URI", r#""not": {"uri": "urn:a"}"#, named(&["urn:b"]), true),
        ("no URI", r#""not": {"uri": "urn:a"}"#, named(&["dns urn.a"]), false),
        ("another address", r#""not": {"ip": "10.0.0.0/8"}"#, named(&["ip 192.0.2.1"]), true),
        ("no address", r#""not": {"ip": "10.0.0.0/8"}"#, unnamed(), false),
        ("another e-mail", r#""not": {"email": "a@t.t"}"#, named(&["email b@t.t"]), true),
        ("no e-mail", r#""not": {"email": "a@t.t"}"#, named(&["dns a.t"]), false),
        ("another workload", r#""not": {"spiffe": "spiffe://t/ns/a/**"}"#, named(&["spiffe://t/ns/b/x"]), true),
        ("that workload", r#""not": {"spiffe": "spiffe://t/ns/a/**"}"#, named(&["spiffe://t/ns/a/x"]), false),
        ("no workload", r#""not": {"spiffe": "spiffe://t/ns/a/**"}"#, named(&["urn:b"]), false),
        ("two URIs are no workload", r#""not": {"spiffe": "spiffe://t/a"}"#, named(&["spiffe://t/b", "urn:b"]), false),
        ("another subject", r#""not": {"subject": {"cn": "a"}}"#, about(&[(cn, "b")]), true),
        ("the subject", r#""not": {"subject": {"cn": "a"}}"#, about(&[(cn, "a")]), false),
        ("no such attribute", r#""not": {"subject": {"cn": "a"}}"#, about(&[("2.5.4.11", "a")]), false),
        ("an attribute twice", r#""not": {"subject": {"cn": "a"}}"#, about(&[(cn, "b"), (cn, "c")]), false),
        ("one of two differs", r#""not": {"subject": {"cn": "a", "ou": "x"}}"#, about(&[(cn, "b")]), true),
        ("no purpose", r#""not": {"eku": ["client_auth"]}"#, unnamed(), false),
        ("another serial number", r#""not": {"serial": "08"}"#, unnamed(), true),
        ("the serial number", r#""not": {"serial": "07"}"#, unnamed(), false),
        ("no key identifier", r#""not": {"issuer": {"key_id": "ab"}}"#, unnamed(), false),
        ("one condition and not another", r#""dns": "a.t", "not": {"dns": "b.t"}"#, named(&["dns a.t"]), true),
        ("both names", r#""dns": "a.t", "not": {"dns": "b.t"}"#, named(&["dns a.t", "dns b.t"]), false),
    ];
    for (name, member, certificate, want) in cases {
        assert_eq!(holds(member, certificate), want, "{name}");
    }
}

#[test]
fn members_that_could_not_be_meant_are_refused_with_their_place() {
    let cases = [
        ("no type", r#""key": {}"#, "key", "missing field `type`"),
        ("a list", r#""key": ["ec", 256]"#, "key", "expected a map"),
        ("another type", r#""key": {"type": "dsa"}"#, "key.type", "known are `ec`, `ed25519` and `rsa`"),
        ("no such curve", r#""key": {"type": "ec", "min_bits": 2048}"#, "key.min_bits", "up to 521 bits"),
        ("no bits", r#""key": {"type": "rsa", "min_bits": 0}"#, "key.min_bits", "16384 for RSA"),
        ("one size", r#""key": {"type": "ed25519", "min_bits": 256}"#, "key.min_bits", "`ed25519` has one only"),
        ("no time", r#""max_lifetime": "0h""#, "max_lifetime", "not a length of time, such as `24h`"),
        ("no unit", r#""max_lifetime": "24""#, "max_lifetime", "not a length of time"),
        ("a sign", r#""max_lifetime": "+24h""#, "max_lifetime", "not a length of time"),
        ("too much time", r#""max_lifetime": "9223372036854775807d""#, "max_lifetime", "not a length of time"),
        ("no identifier", r#""oid": []"#, "oid", "an empty list matches nothing"),
        ("a name", r#""oid": ["1.2", "anyPolicy"]"#, "oid[1]", "not a dotted object identifier"),
        ("not nothing", r#""not": {}"#, "not", "no condition is given"),
        ("not not", r#""not": {"not": {"dns": "a.t"}}"#, "not", "`not` within `not`"),
        ("not a role", r#""not": {"role": "x"}"#, "not.role", "`not` takes no `role`"),
        ("not a capture", r#""not": {"spiffe": "spiffe://t/{ns}"}"#, "not.spiffe", "`not` takes no `{capture}`"),
        ("not a bad value", r#""not": {"oid": ["x"]}"#, "not.oid[0]", "not a dotted object identifier"),
        ("not an unknown field", r#""not": {"dsn": "a.t"}"#, "not.dsn", "unknown field `dsn`"),
    ];
    for (name, member, path, part) in cases {
        let text =
            format!(r#"{{"version": 1, "roles": {{"x": [{{"dns": "x.t"}}], "r": [{{{member}}}]}}, "rules": []}}"#);
        let error = Policy::from_json(text.as_bytes()).unwrap_err();
        let (at, message) = (error.path(), error.to_string());
        assert!(at == format!("roles.r[0].{path}") && message.contains(part), "{name}: `{at}`: {message}");
    }
}

#[test]
fn the_policys_own_tests_present_keys_lifetimes_and_policies() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {"r": [{"key": {"type": "ec", "min_bits": 384}, "max_lifetime": "24h", "oid": ["2.999.1"]}]},
        "rules": [{"id": "a", "allow": ["r"]}],
        "tests": [
            {"name": "all", "peer": {"key": {"type": "ec", "bits": 521}, "lifetime": "12h", "oid": "2.999.1"}, "request": "GET /", "expect": {"allow": "a"}},
            {"name": "no end", "peer": {"key": {"type": "ec", "bits": 521}, "oid": "2.999.1"}, "request": "GET /", "expect": {"deny": "no_rule_matched"}},
            {"name": "weak", "peer": {"key": {"type": "ec", "bits": 256}, "lifetime": "12h", "oid": "2.999.1"}, "request": "GET /", "expect": {"deny": "no_rule_matched"}}
        ]}"#,
    );
    assert_eq!(policy.run_tests(), []);
    assert_eq!(super::policy(&policy.to_json()).to_json(), policy.to_json());
}

/// From bytes: an extension's identifier counts, and each of the certificate policies.
#[test]
fn identifiers_are_read_from_certificates() {
    let issue = |oid: &[u64], content: &[u8]| {
        let mut params = rcgen::CertificateParams::default();
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(oid, content.to_vec())];
        Leaf::from_der(params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der())
    };
    // Two PolicyInformation, 2.999 with a qualifier and 2.5.29.32.0.
    let two = [
        0x30, 0x12, 0x30, 0x08, 0x06, 0x02, 0x88, 0x37, 0x30, 0x02, 0x30, 0x00, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1d,
        0x20, 0x00,
    ];
    let leaf = issue(&[2, 5, 29, 32], &two).unwrap();
    assert_eq!(leaf.policies(), Some(&["2.999".to_owned(), "2.5.29.32.0".to_owned()][..]));
    assert!(leaf.extensions().iter().any(|oid| oid == "2.5.29.32"));
    let leaf = issue(&[1, 3, 6, 1, 4, 1, 99999, 1], b"\x05\x00").unwrap();
    assert_eq!(leaf.policies(), None);
    assert!(leaf.extensions().iter().any(|oid| oid == "1.3.6.1.4.1.99999.1"));
    let cases: [(&str, &[u8]); 4] = [
        ("no policy", &[0x30, 0x00]),
        ("a policy twice", &[0x30, 0x0c, 0x30, 0x04, 0x06, 0x02, 0x88, 0x37, 0x30, 0x04, 0x06, 0x02, 0x88, 0x37]),
        ("something left", &[0x30, 0x08, 0x30, 0x06, 0x06, 0x02, 0x88, 0x37, 0x05, 0x00]),
        ("no sequence", &[0x05, 0x00]),
    ];
    for (name, content) in cases {
        let error = issue(&[2, 5, 29, 32], content).err();
        assert_eq!(error, Some(crate::CertificateError::Malformed("certificate policies")), "{name}");
    }
}
