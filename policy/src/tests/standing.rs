//! Certificates that are not believed: distrusted, revoked, and the limits of each.

use super::*;

fn reason(policy_text: &str, certificate: Synthetic) -> Reason {
    let policy = policy(policy_text);
    let subject = policy.subject(certificate.leaf());
    policy.decide(&request(presented(Some(&subject)), "GET", None, "/")).reason()
}

#[test]
fn a_brake_stops_what_all_its_conditions_cover() {
    let issuer = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let old = || Synthetic { issuer: issuer("2.5.4.3", "old CA"), ..unnamed() };
    let key = || Some(Box::from([0xab, 0xcd]));
    let cases = [
        ("issued before", r#"{"issued_before": "2027-01-15T07:30:01Z"}"#, unnamed(), true),
        ("issued in that second", r#"{"issued_before": "2027-01-15T07:30:00Z"}"#, unnamed(), false),
        ("another offset", r#"{"issued_before": "2027-01-15T09:30:01+02:00"}"#, unnamed(), true),
        ("issued before no end", r#"{"issued_before": "9999-12-31T23:59:59Z"}"#, unnamed(), true),
        ("issuer", r#"{"issuer": {"cn": "old CA"}}"#, old(), true),
        ("another issuer", r#"{"issuer": {"cn": "new CA"}}"#, old(), false),
        ("issuer, later", r#"{"issuer": {"cn": "old CA"}, "issued_before": "2020-01-01T00:00:00Z"}"#, old(), false),
        ("key", r#"{"issuer": {"key_id": "AB:CD"}}"#, Synthetic { authority_key_id: key(), ..unnamed() }, true),
        ("no key", r#"{"issuer": {"key_id": "abcd"}}"#, unnamed(), false),
        (
            "key and name",
            r#"{"issuer": {"key_id": "abcd", "cn": "old CA"}}"#,
            Synthetic { authority_key_id: key(), ..unnamed() },
            false,
        ),
    ];
    for (name, brake, certificate, stopped) in cases {
        let text = format!(r#"{{"version": 1, "rules": [{{"id": "all", "allow": "any"}}], "distrust": [{brake}]}}"#);
        let expected = if stopped { Reason::CertificateDistrusted } else { Reason::RuleMatched };
        assert_eq!(reason(&text, certificate), expected, "{name}");
    }
}

#[test]
fn a_revoked_certificate_is_known_by_serial_key_or_hash() {
    let hash = |byte: u8| format!("{byte:02x}").repeat(32);
    let cases = [
        ("serial", r#""serials": ["00:07"]"#.to_owned(), true),
        ("another serial", r#""serials": ["0700"]"#.to_owned(), false),
        ("certificate", format!(r#""sha256": ["{}"]"#, hash(1)), true),
        ("the key's hash as the certificate's", format!(r#""sha256": ["{}"]"#, hash(2)), false),
        ("key", format!(r#""spki_sha256": ["{}", "{}"]"#, hash(5), hash(2)), true),
        ("fresh without end", r#""fresh_until": "9999-12-31T23:59:59Z""#.to_owned(), false),
        ("still fresh", r#""fresh_until": "2027-01-15T08:00:00Z""#.to_owned(), false),
    ];
    for (name, revoked, refused) in cases {
        let text = format!(r#"{{"version": 1, "rules": [{{"id": "all", "allow": "any"}}], "revoked": {{{revoked}}}}}"#);
        let expected = if refused { Reason::CertificateRevoked } else { Reason::RuleMatched };
        assert_eq!(reason(&text, unnamed()), expected, "{name}");
    }
    let stale = r#"{"version": 1, "rules": [{"id": "all", "allow": "any"}], "revoked": {"fresh_until": "2027-01-15T07:59:59Z"}}"#;
    assert_eq!(reason(stale, unnamed()), Reason::RevocationStale);
}
