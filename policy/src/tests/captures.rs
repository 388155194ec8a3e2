//! Captures, typed names and roles in roles: what must agree, and what must never be put together.

use super::*;

fn allowed(policy: &Policy, leaf: Leaf, host: Option<&str>, path: &str) -> bool {
    let subject = policy.subject(leaf);
    policy.decide(&request(presented(Some(&subject)), "GET", host, path)).is_allowed()
}

#[test]
fn a_name_stands_for_one_text_in_principal_path_and_host() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {
            "tenant": [{"spiffe": "spiffe://t/{ns}/*"}],
            "pair": [{"spiffe": "spiffe://t/twin/{a}/{a}"}],
            "outer": [{"role": "tenant", "spiffe": "spiffe://t/*/{app}"}],
            "either": [{"spiffe": "spiffe://t/{ns}/*"}, {"spiffe": "spiffe://t/*/{ns}"}]
        },
        "rules": [
            {"id": "own", "allow": ["tenant"], "paths": ["/own/{ns}/**"]},
            {"id": "host", "allow": ["tenant"], "hosts": ["{ns}.t"], "paths": ["/host/{ns}"]},
            {"id": "twice", "allow": "any", "paths": ["/twice/{x}/{x}"]},
            {"id": "pair", "allow": ["pair"], "paths": ["/pair/{a}"]},
            {"id": "nested", "allow": ["outer"], "paths": ["/nested/{ns}/{app}"]},
            {"id": "either", "allow": ["either"], "paths": ["/either/{ns}"]}
        ]}"#,
    );
    let cases = [
        ("own", "spiffe://t/a/b", None, "/own/a/x", true),
        ("another's", "spiffe://t/a/b", None, "/own/b/x", false),
        ("decoded once, then compared", "spiffe://t/a/b", None, "/own/%61", true),
        ("case matters", "spiffe://t/a/b", None, "/own/A", false),
        ("host and path", "spiffe://t/a/b", Some("a.t"), "/host/a", true),
        ("host in capitals", "spiffe://t/a/b", Some("A.t"), "/host/a", true),
        ("another's host", "spiffe://t/a/b", Some("b.t"), "/host/a", false),
        ("no host", "spiffe://t/a/b", None, "/host/a", false),
        ("twice the same", "spiffe://t/a/b", None, "/twice/q/q", true),
        ("twice not the same", "spiffe://t/a/b", None, "/twice/q/r", false),
        ("twice in the principal", "spiffe://t/twin/q/q", None, "/pair/q", true),
        ("twice in the principal, path differs", "spiffe://t/twin/q/q", None, "/pair/r", false),
        ("principal disagrees with itself", "spiffe://t/twin/q/r", None, "/pair/q", false),
        ("through a role", "spiffe://t/a/b", None, "/nested/a/b", true),
        ("through a role, outer differs", "spiffe://t/a/b", None, "/nested/a/c", false),
        ("through a role, inner differs", "spiffe://t/a/b", None, "/nested/c/b", false),
        ("one way to hold the role", "spiffe://t/a/b", None, "/either/a", true),
        ("the other way", "spiffe://t/a/b", None, "/either/b", true),
        ("neither way", "spiffe://t/a/b", None, "/either/c", false),
    ];
    for (name, id, host, path, expected) in cases {
        assert_eq!(allowed(&policy, spiffe(id), host, path), expected, "{name}");
    }
}

#[test]
fn a_member_that_binds_less_than_its_role_names_has_no_way_in_where_it_counts() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {
            "reader": [{"spiffe": "spiffe://t/{ns}/*"}, {"dns": "*.reader.t"}],
            "outer": [{"role": "reader"}],
            "auditor": [{"dns": "audit.t"}]
        },
        "rules": [
            {"id": "own", "allow": ["reader", "auditor"], "paths": ["/own/{ns}"]},
            {"id": "outer", "allow": ["outer"], "paths": ["/outer/{ns}"]},
            {"id": "shared", "allow": ["reader"], "paths": ["/shared/{id}"]}
        ]}"#,
    );
    let named = |names: &[&str]| {
        let name = |name: &&str| match name.strip_prefix("spiffe:") {
            Some(_) => AlternativeName::Uri((*name).to_owned()),
            None => AlternativeName::Dns((*name).to_owned()),
        };
        Synthetic { alternative_names: names.iter().map(name).collect(), ..unnamed() }.leaf()
    };
    let (id, dns) = ("spiffe://t/a/b", "x.reader.t");
    let cases = [
        ("by DNS name, some tenant", &[dns][..], "/own/a", false),
        ("by DNS name, through a role", &[dns], "/outer/a", false),
        ("by DNS name, a name that only the path has", &[dns], "/shared/1", true),
        ("both ways, its tenant", &[id, dns], "/own/a", true),
        ("both ways, another tenant", &[dns, id], "/own/b", false),
        ("both ways, through a role", &[dns, id], "/outer/a", true),
        ("a role that names no tenant has them all", &["audit.t"], "/own/a", true),
    ];
    for (name, names, path, expected) in cases {
        assert_eq!(allowed(&policy, named(names), None, path), expected, "{name}");
    }
}

#[test]
fn conditions_are_never_gathered_across_rules_members_or_kinds() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {
            "both": [{"spiffe": "spiffe://t/a", "dns": "a.t"}],
            "spiffe-only": [{"spiffe": "spiffe://t/a"}],
            "dns-only": [{"dns": "a.t"}],
            "mail": [{"email": "A@t.example"}],
            "uri": [{"uri": "https://t/a"}],
            "cn": [{"subject": {"cn": "a.t"}}]
        },
        "rules": [
            {"id": "both", "allow": ["both"], "paths": ["/both"]},
            {"id": "get", "allow": ["spiffe-only"], "paths": ["/get"]},
            {"id": "dns", "allow": ["dns-only"], "paths": ["/dns"]},
            {"id": "mail", "allow": ["mail"], "paths": ["/mail"]},
            {"id": "uri", "allow": ["uri"], "paths": ["/uri"]},
            {"id": "cn", "allow": ["cn"], "paths": ["/cn"]}
        ]}"#,
    );
    let named = |names: Vec<AlternativeName>| Synthetic { alternative_names: names, ..unnamed() }.leaf();
    let uri = |text: &str| AlternativeName::Uri(text.to_owned());
    let name = |text: &str| AlternativeName::Dns(text.to_owned());
    let mail = |text: &str| AlternativeName::Email(text.to_owned());
    let subject = |values: &[&str]| {
        let subject = values.iter().map(|value| ("2.5.4.3".to_owned(), (*value).to_owned())).collect();
        Synthetic { subject, ..unnamed() }.leaf()
    };
    let cases = [
        ("all conditions", named(vec![uri("spiffe://t/a"), name("a.t")]), "/both", true),
        ("all SANs count, not the first", named(vec![name("z.t"), name("a.t"), uri("spiffe://t/a")]), "/both", true),
        ("one condition", named(vec![uri("spiffe://t/a")]), "/both", false),
        ("the role of one rule on the path of another", named(vec![name("a.t")]), "/get", false),
        ("two URIs are no SPIFFE ID", named(vec![uri("spiffe://t/a"), uri("https://t/a")]), "/get", false),
        ("but each is a URI", named(vec![uri("spiffe://t/a"), uri("https://t/a")]), "/uri", true),
        ("a DNS name as URI", named(vec![uri("a.t")]), "/dns", false),
        ("a DNS name as mail", named(vec![mail("a.t")]), "/dns", false),
        ("a common name is no DNS name", subject(&["a.t"]), "/dns", false),
        ("a DNS name is no common name", named(vec![name("a.t")]), "/cn", false),
        ("a common name", subject(&["a.t"]), "/cn", true),
        ("two common names", subject(&["a.t", "b.t"]), "/cn", false),
        ("DNS in capitals", named(vec![name("A.T")]), "/dns", true),
        ("longer DNS name", named(vec![name("a.t.evil")]), "/dns", false),
        ("mail, domain in capitals", named(vec![mail("A@T.Example")]), "/mail", true),
        ("mail, local part in small letters", named(vec![mail("a@t.example")]), "/mail", false),
        ("URI in capitals", named(vec![uri("HTTPS://t/a")]), "/uri", false),
    ];
    for (case, leaf, path, expected) in cases {
        assert_eq!(allowed(&policy, leaf, None, path), expected, "{case}");
    }
}

#[test]
fn each_kind_of_condition_finds_its_certificates_and_no_others() {
    let yes = || Synthetic {
        alternative_names: vec![
            AlternativeName::Uri("spiffe://t/ns/pay/sa/x".to_owned()),
            AlternativeName::Dns("w.reader.t".to_owned()),
            AlternativeName::Ip([10, 1, 2, 3].into()),
        ],
        subject: vec![("2.5.4.11".to_owned(), "payments".to_owned()), ("2.5.4.10".to_owned(), "acme".to_owned())],
        issuer: vec![("2.5.4.3".to_owned(), "CA".to_owned())],
        eku: vec!["1.3.6.1.5.5.7.3.2".to_owned(), "1.3.6.1.5.5.7.3.1".to_owned()],
        authority_key_id: Some(Box::new([0xfe, 0xed])),
        ..unnamed()
    };
    let no = || Synthetic {
        alternative_names: vec![AlternativeName::Dns("*.reader.t".to_owned())],
        serial: Box::new([8]),
        sha256: [3; 32],
        spki_sha256: [4; 32],
        ..unnamed()
    };
    let one = "01".repeat(32);
    let two = "02".repeat(32);
    for condition in [
        r#"{"spiffe": "spiffe://t/ns/*/sa/x"}"#.to_owned(),
        r#"{"spiffe": "spiffe://t/**"}"#.to_owned(),
        r#"{"spiffe": "spiffe://t/ns/pay/sa/x/**"}"#.to_owned(),
        r#"{"dns": "*.reader.t"}"#.to_owned(),
        r#"{"dns": "W.reader.t"}"#.to_owned(),
        r#"{"ip": "10.1.2.3"}"#.to_owned(),
        r#"{"ip": "10.1.0.0/16"}"#.to_owned(),
        r#"{"subject": {"ou": "payments"}}"#.to_owned(),
        r#"{"subject": {"2.5.4.11": "payments", "o": "acme"}}"#.to_owned(),
        r#"{"issuer": {"cn": "CA"}}"#.to_owned(),
        r#"{"issuer": {"key_id": "FE:ED"}}"#.to_owned(),
        r#"{"eku": ["client_auth"]}"#.to_owned(),
        r#"{"eku": ["client_auth", "1.3.6.1.5.5.7.3.1"]}"#.to_owned(),
        r#"{"serial": "07"}"#.to_owned(),
        format!(r#"{{"sha256": "{one}"}}"#),
        format!(r#"{{"spki_sha256": "{two}"}}"#),
        format!(r#"{{"spki_sha256": "{two}", "spiffe": "spiffe://t/**", "dns": "w.reader.t"}}"#),
    ] {
        let text =
            format!(r#"{{"version": 1, "roles": {{"r": [{condition}], "through": [{{"role": "r"}}]}}, "rules": []}}"#);
        let policy = policy(&text);
        assert_eq!(policy.subject(yes().leaf()).roles(), ["r", "through"], "{condition}");
        // A wildcard in the certificate is the same text as the pattern, and only that.
        let no = no().leaf();
        let expected: &[&str] = if condition.contains("*.reader.t") { &["r", "through"] } else { &[] };
        assert_eq!(policy.subject(no).roles(), expected, "{condition}");
    }
    for condition in [
        r#"{"spiffe": "spiffe://t/ns/pay/sa"}"#,
        r#"{"spiffe": "spiffe://t/ns/pay/sa/x/*"}"#,
        r#"{"spiffe": "spiffe://t/ns/pa/sa/x"}"#,
        r#"{"dns": "*.t"}"#,
        r#"{"dns": "*.w.reader.t"}"#,
        r#"{"ip": "10.1.2.0/25", "serial": "08"}"#,
        r#"{"ip": "::ffff:10.1.2.3"}"#,
        r#"{"subject": {"ou": "payments", "o": "other"}}"#,
        r#"{"eku": ["client_auth", "code_signing"]}"#,
        r#"{"dns": "w.reader.t", "serial": "08"}"#,
    ] {
        let policy = policy(&format!(r#"{{"version": 1, "roles": {{"r": [{condition}]}}, "rules": []}}"#));
        assert_eq!(policy.subject(yes().leaf()).roles(), [""; 0], "{condition}");
    }
}

#[test]
fn roles_that_multiply_captures_without_end_are_nobodys() {
    let mut roles = vec![r#""r0": [{"spiffe": "spiffe://t/{a0}/*"}, {"spiffe": "spiffe://t/*/{a0}"}]"#.to_owned()];
    for number in 1..20 {
        let before = number - 1;
        roles.push(format!(
            r#""r{number}": [{{"role": "r{before}", "spiffe": "spiffe://t/{{a{number}}}/*"}}, {{"role": "r{before}", "spiffe": "spiffe://t/*/{{a{number}}}"}}]"#
        ));
    }
    let policy = policy(&format!(
        r#"{{"version": 1, "roles": {{{}}}, "rules": [{{"id": "all", "allow": "any"}}]}}"#,
        roles.join(", ")
    ));
    let subject = policy.subject(spiffe("spiffe://t/a/b"));
    let decision = policy.decide(&request(presented(Some(&subject)), "GET", None, "/"));
    assert_eq!((decision.reason(), decision.status()), (Reason::InternalError, 503));
}
