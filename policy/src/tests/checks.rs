//! The policy's own tests, and what the check of a policy finds.

use super::*;

fn findings(roles: &str, rules: &str) -> Vec<String> {
    findings_in(&format!(r#"{{"version": 1, "trust_domain": "t", "roles": {{{roles}}}, "rules": [{rules}]}}"#))
}

fn findings_in(text: &str) -> Vec<String> {
    policy(text).check(NOW).iter().map(|finding| format!("{} {}: {finding}", finding.code(), finding.path())).collect()
}

const ROLES: &str = r#""a": [{"dns": "a.t"}], "b": [{"dns": "b.t"}]"#;
/// Uses both roles and covers nothing.
const USE: &str = r#"{"id": "use", "allow": ["a", "b"], "paths": ["/use"]}"#;

#[test]
fn rules_that_never_decide_are_found() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "the same twice",
            r#"{"id": "x", "allow": ["a"], "paths": ["/x"]}, {"id": "y", "allow": ["a"], "paths": ["/x"]}"#,
            &["shadowed rules[1]: `y` never decides: `x` matches all of it first"],
        ),
        (
            "within a wildcard",
            r#"{"id": "x", "allow": "any", "paths": ["/x/**"]}, {"id": "y", "allow": ["a"], "paths": ["/x/{id}/y"]}"#,
            &["shadowed rules[1]: `y` never decides: `x` matches all of it first"],
        ),
        (
            "the wider rule comes later",
            r#"{"id": "y", "allow": ["a"], "paths": ["/x/y"]}, {"id": "x", "allow": "any", "paths": ["/x/**"]}"#,
            &[],
        ),
        (
            "denied",
            r#"{"id": "y", "allow": ["a"], "paths": ["/x/y"]}, {"id": "x", "deny": "any", "paths": ["/x/**"]}"#,
            &["dead rules[0]: `y` never lets anything through: `x` denies all of it"],
        ),
        (
            "denied to some",
            r#"{"id": "y", "allow": ["a", "b"], "paths": ["/x/y"]}, {"id": "x", "deny": ["a"], "paths": ["/x/**"]}"#,
            &[],
        ),
        (
            "denied to each in turn",
            r#"{"id": "y", "allow": ["a", "b"], "paths": ["/x/y"]}, {"id": "x", "deny": ["a"], "paths": ["/x/**"]}, {"id": "z", "deny": ["b"]}"#,
            &["dead rules[0]: `y` never lets anything through: `x`, `z` denies all of it"],
        ),
        (
            "other methods",
            r#"{"id": "x", "allow": "any", "methods": ["GET"]}, {"id": "y", "allow": ["a"], "paths": ["/y"]}"#,
            &[],
        ),
        (
            "methods together",
            r#"{"id": "x", "allow": "any", "methods": ["GET"], "paths": ["/y"]}, {"id": "z", "allow": "any", "methods": ["PUT"], "paths": ["/y"]}, {"id": "y", "allow": ["a"], "methods": ["GET", "PUT"], "paths": ["/y"]}"#,
            &["shadowed rules[2]: `y` never decides: `x`, `z` matches all of it first"],
        ),
        (
            "a host is narrower",
            r#"{"id": "x", "allow": "any", "hosts": ["h.t"], "paths": ["/x"]}, {"id": "y", "allow": ["a"], "paths": ["/x"]}"#,
            &[],
        ),
        (
            "a host within a host",
            r#"{"id": "x", "allow": "any", "hosts": ["**.t"]}, {"id": "y", "allow": ["a"], "hosts": ["h.t"], "paths": ["/x"]}"#,
            &["shadowed rules[1]: `y` never decides: `x` matches all of it first"],
        ),
        (
            "captures narrow the first",
            r#"{"id": "x", "allow": "any", "paths": ["/{n}/{n}"]}, {"id": "y", "allow": ["a"], "paths": ["/x/x"]}"#,
            &[],
        ),
        (
            "a trailing slash is another path",
            r#"{"id": "x", "allow": "any", "paths": ["/x/*"]}, {"id": "y", "allow": ["a"], "paths": ["/x/"]}"#,
            &[],
        ),
        (
            "deny twice",
            r#"{"id": "x", "deny": "any", "paths": ["/x/**"]}, {"id": "y", "deny": ["a"], "paths": ["/x"]}"#,
            &["shadowed rules[1]: `y` never decides: `x` matches all of it first"],
        ),
        (
            "one side of an argument",
            r#"{"id": "x", "allow": ["a"], "paths": ["/x"]}, {"id": "y", "deny": ["b"], "paths": ["/x"]}"#,
            &["ambiguous rules[0]: `x` allows what `y` denies: who is meant by both is refused"],
        ),
        (
            "no argument over methods",
            r#"{"id": "x", "allow": ["a"], "methods": ["GET"], "paths": ["/x"]}, {"id": "y", "deny": ["b"], "methods": ["PUT"], "paths": ["/x"]}"#,
            &[],
        ),
    ];
    for (name, rules, expected) in cases {
        let found = findings(ROLES, &format!("{rules}, {USE}"));
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }
}

#[test]
fn unused_roles_and_foreign_trust_domains_are_found() {
    let roles = r#""used": [{"role": "inner"}], "inner": [{"spiffe": "spiffe://t/**"}], "lost": [{"dns": "x.t"}, {"spiffe": "spiffe://u/x"}]"#;
    assert_eq!(
        findings(roles, r#"{"id": "x", "allow": ["used"]}"#),
        [
            "unused_role roles.lost: no rule uses the role `lost`",
            "foreign_trust_domain roles.lost[1].spiffe: `u` is not the policy's trust domain"
        ]
    );
}

#[test]
fn the_policys_own_tests_pass_or_say_what_they_got() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {"web": [{"spiffe": "spiffe://t/web"}], "ops": [{"subject": {"ou": "ops"}, "issuer": {"cn": "CA"}}]},
        "rules": [
            {"id": "read", "allow": ["web"], "methods": ["GET"], "paths": ["/orders/{id}"]},
            {"id": "by-host", "allow": ["ops"], "hosts": ["ops.t"]},
            {"id": "no-debug", "deny": "any", "paths": ["/debug/**"]}
        ],
        "distrust": [{"issued_before": "2030-01-01T00:00:00Z"}],
        "tests": [
            {"name": "reads", "peer": {"spiffe": "spiffe://t/web"}, "request": "GET /orders/42", "expect": {"allow": "read"}},
            {"name": "does not write", "peer": {"spiffe": "spiffe://t/web"}, "request": "PUT /orders/42", "expect": {"deny": "no_rule_matched"}},
            {"name": "by subject and host", "peer": {"subject": {"ou": "ops"}, "issuer": {"cn": "CA"}}, "request": "GET https://ops.t/x", "expect": {"allow": "by-host"}},
            {"name": "by host", "peer": {"subject": {"ou": "ops"}, "issuer": {"cn": "CA"}}, "request": "GET /x", "host": "OPS.t:443", "expect": {"allow": "by-host"}},
            {"name": "nobody", "peer": "none", "request": "GET /orders/42", "expect": {"deny": "no_certificate"}},
            {"name": "denied by rule", "peer": "none", "request": "GET /debug/x", "expect": {"deny": "no-debug"}},
            {"name": "denied by reason", "peer": "none", "request": "GET /debug/x", "expect": {"deny": "deny_rule_matched"}},
            {"name": "refused path", "peer": {"dns": ["x.t", "y.t"]}, "request": "GET //debug", "expect": {"deny": "path_empty_segment"}},
            {"name": "wrong", "peer": {"spiffe": "spiffe://t/web"}, "request": "GET /orders/42", "expect": {"deny": "no-debug"}},
            {"name": "wrong again", "peer": "none", "request": "GET /debug/x", "expect": {"deny": "no_rule_matched"}},
            {"name": "wrong at last", "peer": "none", "request": "GET /x", "expect": {"allow": "read"}}
        ]}"#,
    );
    let failures: Vec<String> =
        policy.run_tests().iter().map(|failure| format!("{}: {failure}", failure.path)).collect();
    assert_eq!(
        failures,
        [
            "tests[8]: test `wrong`: expected deny by `no-debug`, got allow by `read`",
            "tests[9]: test `wrong again`: expected deny as `no_rule_matched`, got deny by `no-debug`",
            "tests[10]: test `wrong at last`: expected allow by `read`, got deny as `no_certificate`",
        ]
    );
    assert_eq!(super::policy(&policy.to_json()).run_tests().len(), 3);
}

#[test]
fn the_policys_own_tests_say_what_rules_require() {
    let policy = policy(
        r#"{"version": 1, "rules": [
            {"id": "all", "allow": "any", "headers": {"x-a": "1"}, "sources": ["10.0.0.0/8"], "sni": ["a.t"], "tls": {"min_version": "1.2"},
             "times": [{"days": ["mon"]}]}
        ],
        "distrust": [{"issued_before": "2026-11-24T00:00:00Z", "issuer": {"cn": "CA"}}],
        "tests": [
            {"name": "all", "peer": {"dns": "p.t"}, "request": "GET /", "headers": {"x-a": ["1", "1"]}, "source": "10.0.0.7", "sni": "a.t", "tls": "1.3",
             "at": "2026-11-23T12:00:00Z", "expect": {"allow": "all"}},
            {"name": "a day later", "peer": "none", "request": "GET /", "headers": {"x-a": "1"}, "source": "10.0.0.7", "sni": "a.t", "tls": "1.2",
             "at": "2026-11-24T12:00:00Z", "expect": {"deny": "no_certificate"}},
            {"name": "unsaid", "peer": "none", "request": "GET /", "at": "2026-11-23T12:00:00Z", "expect": {"allow": "all"}}
        ]}"#,
    );
    let failures: Vec<String> = policy.run_tests().iter().map(ToString::to_string).collect();
    assert_eq!(failures, ["test `unsaid`: expected allow by `all`, got deny as `no_certificate`"]);
    assert_eq!(super::policy(&policy.to_json()).to_json(), policy.to_json());
    for (field, part) in [
        (r#""source": "10.0.0.0/8""#, "source: `10.0.0.0/8` is not an IP address"),
        (r#""tls": "TLSv1.3""#, "tls: `TLSv1.3` is not a version of TLS"),
        (r#""at": "noon""#, "at: `noon` is not a time"),
    ] {
        let text = format!(
            r#"{{"version": 1, "rules": [], "tests": [{{"name": "t", "peer": "none", "request": "GET /", {field}, "expect": {{"deny": "no_certificate"}}}}]}}"#
        );
        let error = Policy::from_json(text.as_bytes()).unwrap_err();
        let message = format!("{}: {error}", error.path());
        assert!(message.starts_with(&format!("tests[0].{part}")), "{message}");
    }
}

#[test]
fn an_explanation_names_the_first_condition_that_failed() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {"web": [{"spiffe": "spiffe://t/{ns}/web"}], "ops": [{"dns": "ops.t"}]},
        "rules": [
            {"id": "path", "allow": ["web"], "paths": ["/other"]},
            {"id": "host", "allow": ["web"], "hosts": ["a.t", "b.t", "c.t"], "paths": ["/x/**"]},
            {"id": "method", "allow": ["web"], "methods": ["PUT"], "paths": ["/x/**"]},
            {"id": "role", "deny": ["ops"], "paths": ["/x/**"]},
            {"id": "capture", "allow": ["web"], "paths": ["/x/{ns}"]},
            {"id": "not-asked", "deny": "any", "paths": ["/other"]},
            {"id": "matches", "allow": "any", "paths": ["/x/y"]}
        ]}"#,
    );
    let subject = policy.subject(spiffe("spiffe://t/n/web"));
    let explanation = policy.explain(&request(presented(Some(&subject)), "GET", Some("h.t"), "/x/y"));
    let outcomes: Vec<(&str, &str, String)> = explanation
        .rules
        .iter()
        .map(|outcome| match &outcome.failed {
            None => (outcome.rule, "", String::new()),
            Some(failed) => (outcome.rule, failed.code(), failed.to_string()),
        })
        .collect();
    let expected = [
        ("path", "path", "the path is not `/other`"),
        ("host", "host", "the host `h.t` is not `a.t`, `b.t` or `c.t`"),
        ("method", "method", "the method `GET` is not `PUT`"),
        ("role", "role", "the peer does not hold `ops`"),
        ("capture", "capture", "`{ns}` does not stand for the same text everywhere"),
        ("matches", "", ""),
    ];
    assert_eq!(outcomes, expected.map(|(rule, code, text)| (rule, code, text.to_owned())));
    assert_eq!(verdict(&explanation.decision), (Reason::RuleMatched, Some("matches")));

    let refused = policy.explain(&request(presented(Some(&subject)), "GET", None, "//"));
    assert_eq!((refused.decision.reason(), refused.rules.len()), (Reason::PathEmptySegment, 0));
}

#[test]
fn roles_that_nobody_can_hold_are_found() {
    let found = |roles: &str| -> Vec<String> {
        let lines = findings(roles, r#"{"id": "use", "allow": ["a", "b"]}"#);
        lines.into_iter().filter(|line| line.starts_with("impossible")).collect()
    };
    let why = |place: &str, field: &str| {
        format!("impossible {place}: nobody can hold `a` this way: its conditions on `{field}` contradict each other")
    };
    let b = |b: &str, a: &str| format!(r#""b": [{b}], "a": [{a}]"#);
    let cases: Vec<(&str, String, Vec<String>)> = vec![
        (
            "two trust domains",
            b(r#"{"spiffe": "spiffe://t/x"}"#, r#"{"role": "b", "spiffe": "spiffe://u/x"}"#),
            vec![why("roles.a", "spiffe")],
        ),
        (
            "two lengths",
            b(r#"{"spiffe": "spiffe://t/*/*"}"#, r#"{"role": "b", "spiffe": "spiffe://t/*"}"#),
            vec![why("roles.a", "spiffe")],
        ),
        (
            "one capture, two words",
            b(r#"{"spiffe": "spiffe://t/{n}/**"}"#, r#"{"role": "b", "spiffe": "spiffe://t/x/{n}/y/{n}"}"#),
            vec![],
        ),
        (
            "one capture, two literals",
            b(r#"{"spiffe": "spiffe://t/x/y/*"}"#, r#"{"role": "b", "spiffe": "spiffe://t/{n}/{n}/z"}"#),
            vec![why("roles.a", "spiffe")],
        ),
        (
            "a way by one of two members",
            b(
                r#"{"spiffe": "spiffe://u/x"}, {"spiffe": "spiffe://t/**"}"#,
                r#"{"role": "b", "spiffe": "spiffe://t/x"}"#,
            ),
            vec![],
        ),
        (
            "one member of two",
            b(r#"{"subject": {"ou": "x"}}"#, r#"{"role": "b", "subject": {"ou": "y"}}, {"dns": "a.t"}"#),
            vec![why("roles.a[0]", "subject")],
        ),
        (
            "a URI that is no SPIFFE ID beside one",
            b(r#"{"dns": "b.t"}"#, r#"{"uri": "https://a.t/", "spiffe": "spiffe://t/x"}"#),
            vec![why("roles.a", "uri")],
        ),
        (
            "a URI that is the SPIFFE ID",
            b(r#"{"dns": "b.t"}"#, r#"{"uri": "spiffe://t/x", "spiffe": "spiffe://t/*"}"#),
            vec![],
        ),
        (
            "two serial numbers",
            b(r#"{"serial": "01"}"#, r#"{"role": "b", "serial": "02"}"#),
            vec![why("roles.a", "serial")],
        ),
        ("two DNS names", b(r#"{"dns": "b.t"}"#, r#"{"role": "b", "dns": "a.t"}"#), vec![]),
        (
            "a role's condition and its own negation",
            b(r#"{"dns": "b.t"}, {"dns": "c.b.t"}"#, r#"{"role": "b", "not": {"dns": "b.t"}}"#),
            vec![],
        ),
        (
            "a condition of the only way, and its negation",
            b(r#"{"subject": {"ou": "x", "o": "y"}}"#, r#"{"role": "b", "not": {"subject": {"ou": "x"}}}"#),
            vec![why("roles.a", "subject")],
        ),
    ];
    for (name, roles, want) in cases {
        assert_eq!(found(&roles), want, "{name}");
    }
}

#[test]
fn rules_that_overlap_in_part_are_found() {
    let rule = |id: &str, about: &str| format!(r#"{{"id": "{id}", {about}}}"#);
    let cases: &[(&str, &str, &str, Option<&str>)] = &[
        (
            "crossing",
            r#""allow": ["a"], "paths": ["/{x}/b"]"#,
            r#""allow": ["a"], "paths": ["/a/{y}"]"#,
            Some("GET /a/b"),
        ),
        (
            "everything below and an ending",
            r#""allow": "any", "methods": ["PUT"], "paths": ["/a/**"]"#,
            r#""allow": ["b"], "paths": ["/{x}/b"]"#,
            Some("PUT /a/b"),
        ),
        ("a path and a host", r#""allow": "any", "hosts": ["h.t"]"#, r#""allow": ["b"], "paths": ["/b"]"#, None),
        (
            "hosts that cross",
            r#""allow": ["b"], "hosts": ["{x}.h.t"], "paths": ["/b"]"#,
            r#""allow": ["b"], "hosts": ["a.{y}.t"], "paths": ["/b"]"#,
            Some("GET https://a.h.t/b"),
        ),
        ("one within the other", r#""allow": ["a"], "paths": ["/a/b"]"#, r#""allow": ["a"], "paths": ["/a/*"]"#, None),
        (
            "other methods",
            r#""allow": ["a"], "methods": ["GET"], "paths": ["/{x}/b"]"#,
            r#""allow": ["a"], "methods": ["PUT"], "paths": ["/a/{y}"]"#,
            None,
        ),
        ("other roles", r#""allow": ["a"], "paths": ["/{x}/b"]"#, r#""allow": ["b"], "paths": ["/a/{y}"]"#, None),
        ("other lengths", r#""allow": ["a"], "paths": ["/{x}/b"]"#, r#""allow": ["a"], "paths": ["/a"]"#, None),
        ("a deny rule", r#""deny": ["a"], "paths": ["/{x}/b"]"#, r#""allow": ["a"], "paths": ["/a/{y}"]"#, None),
    ];
    for (name, first, later, want) in cases {
        let rules = [rule("first", first), rule("later", later), USE.to_owned()].join(", ");
        let found: Vec<String> =
            findings(ROLES, &rules).into_iter().filter(|line| line.starts_with("overlapping")).collect();
        let want: Vec<String> = want
            .iter()
            .map(|example| {
                format!("overlapping rules[1]: `later` and `first` both match `{example}`, and `first` is the one that decides it")
            })
            .collect();
        assert_eq!(found, want, "{name}");
    }
}

#[test]
fn a_condition_and_its_own_negation_are_found_whatever_the_kind() {
    let hash = |byte: &str| byte.repeat(32);
    let cases: Vec<(&str, String, &str, bool)> = vec![
        ("dns", r#""a.b""#.to_owned(), r#""a.b""#, true),
        ("dns", r#""a.b""#.to_owned(), r#""*.b""#, true),
        ("dns", r#""*.b""#.to_owned(), r#""a.b""#, false),
        ("email", r#""x@a.b""#.to_owned(), r#""x@A.b""#, true),
        ("uri", r#""urn:x""#.to_owned(), r#""urn:x""#, true),
        ("uri", r#""urn:x""#.to_owned(), r#""urn:y""#, false),
        ("ip", r#""10.1.0.0/16""#.to_owned(), r#""10.0.0.0/8""#, true),
        ("ip", r#""10.0.0.0/8""#.to_owned(), r#""10.1.0.0/16""#, false),
        ("spiffe", r#""spiffe://t/{ns}/x""#.to_owned(), r#""spiffe://t/**""#, true),
        ("spiffe", r#""spiffe://t/*/x""#.to_owned(), r#""spiffe://t/a/x""#, false),
        ("subject", r#"{"cn": "x", "ou": "y"}"#.to_owned(), r#"{"ou": "y"}"#, true),
        ("subject", r#"{"ou": "y"}"#.to_owned(), r#"{"cn": "x", "ou": "y"}"#, false),
        ("issuer", r#"{"cn": "x"}"#.to_owned(), r#"{"cn": "x"}"#, true),
        ("issuer", r#"{"key_id": "0a0b"}"#.to_owned(), r#"{"key_id": "0a0b"}"#, true),
        ("serial", r#""01""#.to_owned(), r#""0001""#, true),
        ("eku", r#"["client_auth", "server_auth"]"#.to_owned(), r#"["client_auth"]"#, true),
        ("eku", r#"["client_auth"]"#.to_owned(), r#"["client_auth", "server_auth"]"#, false),
        ("oid", r#"["1.2.3"]"#.to_owned(), r#"["1.2.3"]"#, true),
        ("key", r#"{"type": "rsa", "min_bits": 3072}"#.to_owned(), r#"{"type": "rsa"}"#, true),
        ("key", r#"{"type": "rsa"}"#.to_owned(), r#"{"type": "rsa", "min_bits": 3072}"#, false),
        ("max_lifetime", r#""1h""#.to_owned(), r#""24h""#, true),
        ("max_lifetime", r#""24h""#.to_owned(), r#""1h""#, false),
        ("sha256", format!(r#""{}""#, hash("0a")), "", true),
        ("spki_sha256", format!(r#""{}""#, hash("0b")), "", true),
    ];
    for (field, held, excluded, impossible) in cases {
        let excluded = if excluded.is_empty() { held.as_str() } else { excluded };
        let role = format!(r#""a": [{{"{field}": {held}, "not": {{"{field}": {excluded}}}}}]"#);
        let found = findings(&role, r#"{"id": "use", "allow": ["a"]}"#);
        let text = format!(
            "impossible roles.a: nobody can hold `a` this way: its conditions on `{field}` contradict each other"
        );
        let found: Vec<&String> = found.iter().filter(|line| line.starts_with("impossible")).collect();
        assert_eq!(found, if impossible { vec![&text] } else { vec![] }, "{role}");
    }
    let token = r#""tokens": {"p": {"issuer": "i", "audience": ["o"], "jwks": {"keys": []}}}"#;
    let role = r#""roles": {"a": [{"token": {"provider": "p", "scopes": ["s", "t"]}, "not": {"token": {"provider": "p", "scopes": ["s"]}}}]}"#;
    let rules = r#""rules": [{"id": "use", "allow": ["a"]}]"#;
    let found = findings_in(&format!(r#"{{"version": 1, {token}, {role}, {rules}}}"#));
    assert!(found.iter().any(|line| line.starts_with("impossible roles.a: ") && line.contains("`token`")), "{found:?}");
    // Of several conditions one may fail.
    let roles = r#""a": [{"dns": "a.b", "not": {"dns": "a.b", "uri": "urn:x"}}]"#;
    assert_eq!(findings(roles, r#"{"id": "use", "allow": ["a"]}"#), [""; 0]);
}

#[test]
fn requirements_that_nothing_can_fulfil_are_found() {
    let over = |place: &str, until: &str| {
        format!("over rules[0].{place}: nothing is left of these times of `r`, which end at {until}")
    };
    let no_tokens = |field: &str| {
        format!("no_tokens rules[0].{field}: `r` never matches: it asks for a token, and the policy has no `tokens`")
    };
    let excluded = |field: &str| {
        format!("contradictory rules[0].not: `r` never matches: its `not` excludes the `{field}` that it requires")
    };
    // It is 2027-01-15T08:00:00Z, a Friday.
    let cases: Vec<(&str, &str, Vec<String>)> = vec![
        ("a scope", r#""scopes": ["s"]"#, vec![no_tokens("scopes")]),
        ("a claim", r#""claims": {"c": "v"}"#, vec![no_tokens("claims")]),
        ("not a scope", r#""not": {"scopes": ["s"]}"#, vec![no_tokens("not")]),
        ("not a scope from somewhere", r#""not": {"scopes": ["s"], "sources": ["10.0.0.0/8"]}"#, vec![]),
        (
            "a window that ended",
            r#""times": [{"until": "2027-01-15T08:00:00Z"}]"#,
            vec![over("times", "2027-01-15T08:00:00Z")],
        ),
        ("a window that ends in a second", r#""times": [{"until": "2027-01-15T08:00:01Z"}]"#, vec![]),
        (
            "one window of two",
            r#""times": [{"days": ["mon"]}, {"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}]"#,
            vec![over("times[1]", "2026-02-01T00:00:00Z")],
        ),
        (
            "two windows of two",
            r#""times": [{"until": "2026-03-01T00:00:00Z"}, {"until": "2026-02-01T00:00:00Z"}]"#,
            vec![over("times", "2026-03-01T00:00:00Z")],
        ),
        (
            "no such day before the end",
            r#""times": [{"until": "2027-01-17T00:00:00Z", "days": ["mon"]}]"#,
            vec![over("times", "2027-01-17T00:00:00Z")],
        ),
        ("a day before the end", r#""times": [{"until": "2027-01-17T00:00:00Z", "days": ["sat"]}]"#, vec![]),
        (
            "no such hour before the end",
            r#""times": [{"until": "2027-01-15T18:00:00Z", "hours": "06:00-08:00"}]"#,
            vec![over("times", "2027-01-15T18:00:00Z")],
        ),
        (
            "not in a window that ended",
            r#""not": {"times": [{"until": "2026-03-01T00:00:00Z"}]}"#,
            vec![over("not.times", "2026-03-01T00:00:00Z")],
        ),
        (
            "a network and its negation",
            r#""sources": ["10.0.0.0/8"], "not": {"sources": ["10.0.0.0/8"]}"#,
            vec![excluded("sources")],
        ),
        ("a network within another", r#""sources": ["10.0.0.0/8"], "not": {"sources": ["10.1.0.0/16"]}"#, vec![]),
        (
            "a network and its negation from one host",
            r#""sources": ["10.0.0.0/8"], "not": {"sources": ["10.0.0.0/8"], "sni": ["a.t"]}"#,
            vec![],
        ),
        (
            "a header and its negation",
            r#""headers": {"x-a": "1"}, "not": {"headers": {"x-a": "1"}}"#,
            vec![excluded("headers")],
        ),
    ];
    for (name, requirement, expected) in cases {
        let text = format!(r#"{{"version": 1, "rules": [{{"id": "r", "allow": "any", {requirement}}}]}}"#);
        assert_eq!(findings_in(&text), expected, "{name}");
    }
    let text = r#"{"version": 1, "rules": [{"id": "r", "deny": "any", "headers": {"x-a": "1"}, "not": {"headers": {"x-a": "1"}}}]}"#;
    assert_eq!(
        findings_in(text),
        [""; 0],
        "one value of several is enough for a deny rule, and its `not` is about all"
    );
    let text = r#"{"version": 1, "rules": [], "tcp": [{"id": "r", "allow": "any", "times": [{"until": "2026-03-01T00:00:00Z"}]}]}"#;
    let found = findings_in(text);
    assert!(matches!(found.as_slice(), [one] if one.starts_with("over tcp[0].times: ")), "{found:?}");
    let text = r#"{"version": 1, "rules": [], "candidate": {"version": 1, "rules": [{"id": "r", "allow": "any", "scopes": ["s"]}]}}"#;
    let found = findings_in(text);
    assert!(matches!(found.as_slice(), [one] if one.starts_with("no_tokens candidate.rules[0].scopes: ")), "{found:?}");
}

#[test]
fn keys_from_which_nothing_is_verified_are_found() {
    let issuer = issuer::Issuer::new("a");
    let with = |name: &str, value: serde_json::Value| {
        let mut key = issuer.jwk();
        key[name] = value;
        key
    };
    let nameless = || {
        let mut key = issuer.jwk();
        key.as_object_mut().expect("an object").remove("kid");
        key
    };
    let good = issuer.jwk();
    let cases = [
        ("a good key", vec![good.clone()], vec![]),
        ("none", vec![], vec!["no_keys tokens.p.jwks.keys: `p` has no key, so every one of its tokens is refused"]),
        (
            "a point off the curve beside a good key",
            vec![good.clone(), with("y", good["x"].clone())],
            vec!["key_left_out tokens.p.jwks.keys[1]: this key is left out: its `x` and `y` are no point on its curve"],
        ),
        (
            "a key for something else",
            vec![with("use", "enc".into()), good.clone()],
            vec![
                "key_left_out tokens.p.jwks.keys[0]: this key is left out: its `use` or `key_ops` is for something else than verifying signatures",
            ],
        ),
        (
            "a private half",
            vec![with("d", "AAAA".into())],
            vec!["private_key tokens.p.jwks.keys[0]: this key has its private half with it"],
        ),
        ("eight without a name", (0..8).map(|_| nameless()).collect(), vec![]),
        (
            "nine without a name",
            (0..9).map(|_| nameless()).collect(),
            vec!["key_never_tried tokens.p.jwks.keys[8]: this key is never tried: 8 before it fit the same tokens"],
        ),
    ];
    for (name, keys, expected) in cases {
        let provider = serde_json::json!({ "issuer": "i", "audience": ["o"], "jwks": { "keys": keys } });
        let text = serde_json::json!({
            "version": 1, "tokens": { "p": provider },
            "rules": [{ "id": "r", "allow": "any", "scopes": ["s"] }],
        });
        let found = findings_in(&text.to_string());
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }
}
