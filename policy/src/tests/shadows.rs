//! Shadow rules and candidates: looked at, never enforced.

use super::*;

/// Enforced verdict, and what shadow rules and the candidate would make of it.
fn verdicts(policy: &Policy, subject: Option<&Subject>, path: &str) -> [String; 3] {
    let decision = policy.decide(&request(presented(subject), "GET", None, path));
    let text = |allowed: bool, reason: Reason, rule: Option<&str>| match rule {
        Some(rule) => format!("{} by {rule}", if allowed { "allow" } else { "deny" }),
        None => reason.code().to_owned(),
    };
    let other = |divergence: Option<crate::Divergence<'_>>| {
        divergence.map_or_else(String::new, |other| {
            assert_eq!(other.status() == 200, other.is_allowed());
            text(other.is_allowed(), other.reason(), other.rule())
        })
    };
    [
        text(decision.is_allowed(), decision.reason(), decision.rule()),
        other(decision.shadow()),
        other(decision.candidate()),
    ]
}

#[test]
fn a_shadow_rule_decides_nothing_and_tells_what_it_would_decide() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {"a": [{"dns": "a.t"}], "b": [{"dns": "b.t"}]},
        "rules": [
            {"id": "early", "allow": ["a"], "paths": ["/early"], "shadow": true},
            {"id": "open", "allow": ["a"], "paths": ["/early", "/open", "/closing"]},
            {"id": "opening", "allow": ["a", "b"], "paths": ["/open", "/opening"], "shadow": true},
            {"id": "closing", "deny": "any", "paths": ["/closing", "/shut"], "shadow": true},
            {"id": "shut", "deny": "any", "paths": ["/shut"], "shadow": false},
            {"id": "wide", "allow": ["a"], "paths": ["/wide/**"], "shadow": true},
            {"id": "narrow", "allow": ["a"], "paths": ["/wide/x"]},
            {"id": "twice", "allow": ["a"], "paths": ["/wide/x"], "shadow": true}
        ]}"#,
    );
    let a = policy.subject(dns(&["a.t"]));
    let b = policy.subject(dns(&["b.t"]));
    let cases = [
        ("another rule would be first", &a, "/early", "allow by open", "allow by early"),
        ("a later one would not", &a, "/open", "allow by open", ""),
        ("who is not allowed yet", &b, "/open", "no_rule_matched", "allow by opening"),
        ("what is not allowed yet", &a, "/opening", "no_rule_matched", "allow by opening"),
        ("what is allowed still", &a, "/closing", "allow by open", "deny by closing"),
        ("what is refused by default", &b, "/closing", "no_rule_matched", "deny by closing"),
        ("what is denied already", &a, "/shut", "deny by shut", "deny by closing"),
        ("a wider rule before", &a, "/wide/x", "allow by narrow", "allow by wide"),
        ("nothing", &a, "/nothing", "no_rule_matched", ""),
        ("refused before rules are asked", &a, "//", "path_empty_segment", ""),
    ];
    for (name, subject, path, enforced, shadow) in cases {
        assert_eq!(verdicts(&policy, Some(subject), path), [enforced, shadow, ""], "{name}");
    }
    // What a shadow rule would cover is not covered; what covers a shadow rule makes it useless.
    let findings: Vec<String> = policy.check(NOW).iter().map(ToString::to_string).collect();
    assert_eq!(findings, ["`twice` never decides: `wide` matches all of it first"]);
    let explanation = policy.explain(&request(presented(Some(&a)), "GET", None, "/early"));
    let told: Vec<(&str, bool, bool)> =
        explanation.rules.iter().map(|rule| (rule.rule, rule.shadow, rule.failed.is_none())).take(2).collect();
    assert_eq!(told, [("early", true, true), ("open", false, true)]);
}

#[test]
fn a_candidate_has_its_own_roles_rules_and_lists() {
    let policy = policy(
        r#"{"version": 1,
        "roles": {"a": [{"dns": "a.t"}], "gone": [{"dns": "g.t"}]},
        "rules": [{"id": "x", "allow": ["a"], "paths": ["/x", "/y"]}, {"id": "z", "allow": ["gone"], "paths": ["/z"]}],
        "candidate": {
            "version": 1,
            "merge_slashes": true,
            "roles": {"b": [{"dns": "b.t"}, {"dns": "a.t"}]},
            "rules": [
                {"id": "x", "allow": ["b"], "paths": ["/x"]},
                {"id": "new", "allow": ["b"], "paths": ["/y"], "sni": ["a.t"]},
                {"id": "in-shadow", "allow": "any", "paths": ["/z"], "shadow": true}
            ],
            "revoked": {"serials": ["08"]},
            "tests": [
                {"name": "b may", "peer": {"dns": "b.t"}, "request": "GET /x", "expect": {"allow": "x"}},
                {"name": "g may", "peer": {"dns": "g.t"}, "request": "GET /z", "expect": {"deny": "no_certificate"}}
            ]
        }}"#,
    );
    let subject = |name: &str, serial: u8| {
        let alternative_names = vec![AlternativeName::Dns(name.to_owned())];
        policy.subject(Synthetic { alternative_names, serial: Box::new([serial]), ..unnamed() }.leaf())
    };
    let (a, b, g, revoked) = (subject("a.t", 7), subject("b.t", 7), subject("g.t", 7), subject("a.t", 8));
    let cases = [
        ("both by a rule of one name", &a, "/x", "allow by x", ""),
        ("only the candidate", &b, "/x", "no_rule_matched", "allow by x"),
        ("a condition that fails", &a, "/y", "allow by x", "no_rule_matched"),
        ("only the policy, a shadow aside", &g, "/z", "allow by z", "no_rule_matched"),
        ("revoked by the candidate", &revoked, "/x", "allow by x", "certificate_revoked"),
        ("refused by both, for another reason", &revoked, "/nothing", "no_rule_matched", ""),
        ("a path that only the candidate reads", &b, "//x", "path_empty_segment", "allow by x"),
    ];
    for (name, subject, path, enforced, candidate) in cases {
        assert_eq!(verdicts(&policy, Some(subject), path), [enforced, "", candidate], "{name}");
    }
    assert_eq!(a.roles(), ["a"]);
    assert!(policy.needs(Protocol::Http).sni, "the candidate asks for it");
    let failures: Vec<String> =
        policy.run_tests().iter().map(|failure| format!("{}: {failure}", failure.path)).collect();
    assert_eq!(
        failures,
        ["candidate.tests[1]: test `g may`: expected deny as `no_certificate`, got deny as `no_rule_matched`"]
    );
    let again = super::policy(&policy.to_json());
    assert_eq!((again.to_json(), again.version()), (policy.to_json(), policy.version()));
}

/// Who may speak for others is not the candidate's to say: it is asked about the same client.
#[test]
fn a_candidate_knows_the_forwarders_of_the_policy_beside_it() {
    let policy = policy(
        r#"{"version": 1,
        "forwarders": [{"dns": "proxy.t"}],
        "roles": {"a": [{"dns": "a.t"}]},
        "rules": [{"id": "x", "allow": ["a"]}],
        "candidate": {
            "version": 1,
            "roles": {"a": [{"dns": "a.t"}], "proxy": [{"dns": "proxy.t"}]},
            "rules": [{"id": "x", "allow": ["a"], "paths": ["/x"]}, {"id": "p", "allow": ["proxy"]}]
        }}"#,
    );
    let proxy = policy.subject(dns(&["proxy.t"]));
    let client = Forwarded::Certificate(std::sync::Arc::new(policy.subject(dns(&["a.t"]))));
    for (path, candidate) in [("/x", None), ("/y", Some(Reason::NoRuleMatched))] {
        let ask = Request { forwarded: &client, ..request(presented(Some(&proxy)), "GET", None, path) };
        let decision = policy.decide(&ask);
        assert_eq!(verdict(&decision), (Reason::RuleMatched, Some("x")), "{path}");
        assert_eq!(decision.candidate().map(|other| other.reason()), candidate, "{path}");
    }
    let again = super::policy(&policy.to_json());
    assert_eq!((again.to_json(), again.version()), (policy.to_json(), policy.version()));
}

#[test]
fn a_candidate_that_is_no_policy_is_refused_with_its_place() {
    let cases = [
        ("no map", r#"[]"#, "candidate", "expected a map"),
        ("null", r#"null"#, "candidate", "expected a map"),
        ("no version", r#"{"rules": []}"#, "candidate", "missing field `version`"),
        ("another version", r#"{"version": 2, "rules": []}"#, "candidate.version", "version 2"),
        ("a candidate", r#"{"version": 1, "rules": [], "candidate": {}}"#, "candidate.candidate", "unknown field"),
        ("tokens", r#"{"version": 1, "rules": [], "tokens": {}}"#, "candidate.tokens", "unknown field `tokens`"),
        ("records", r#"{"version": 1, "rules": [], "records": {}}"#, "candidate.records", "unknown field `records`"),
        (
            "an unknown role",
            r#"{"version": 1, "rules": [{"id": "x", "allow": ["outer"]}]}"#,
            "candidate.rules[0].allow[0]",
            "no role is named `outer`",
        ),
        (
            "a word for a list in a rule",
            r#"{"version": 1, "rules": [{"id": "x", "allow": "any"}, {"id": "y", "allow": "any", "paths": "/"}]}"#,
            "candidate.rules[1].paths",
            "expected a list",
        ),
        (
            "a number for a name in a role",
            r#"{"version": 1, "roles": {"a": [{"dns": 5}]}, "rules": []}"#,
            "candidate.roles.a[0].dns",
            "expected text",
        ),
    ];
    for (name, candidate, path, part) in cases {
        let text = format!(
            r#"{{"version": 1, "roles": {{"outer": [{{"dns": "a.t"}}]}}, "rules": [], "candidate": {candidate}}}"#
        );
        let error = Policy::from_json(text.as_bytes()).unwrap_err();
        assert!(error.path() == path && error.to_string().contains(part), "{name}: `{}`: {error}", error.path());
    }
}

#[test]
fn a_test_expects_nothing_of_a_shadow_rule() {
    let text = r#"{"version": 1, "rules": [{"id": "x", "allow": "any", "shadow": true}],
        "tests": [{"name": "t", "peer": "none", "request": "GET /", "expect": {"allow": "x"}}]}"#;
    let error = Policy::from_json(text.as_bytes()).unwrap_err();
    assert_eq!(
        (error.path(), error.to_string().as_str()),
        ("tests[0].expect.allow", "`x` is not known here; known are the ids of allow rules")
    );
}

#[test]
fn a_candidate_is_checked_like_the_policy_beside_it() {
    let policy = policy(
        r#"{"version": 1, "trust_domain": "t",
        "forwarders": [{"spiffe": "spiffe://u/edge"}],
        "roles": {"a": [{"dns": "a.t"}]},
        "rules": [{"id": "open", "allow": ["a"], "paths": ["/open"]}],
        "candidate": {"version": 1, "trust_domain": "t",
            "roles": {"b": [{"dns": "b.t"}], "c": [{"spiffe": "spiffe://u/c"}]},
            "rules": [
                {"id": "wide", "allow": ["b"], "paths": ["/wide/**"]},
                {"id": "narrow", "allow": ["b"], "paths": ["/wide/x"]}
            ]}}"#,
    );
    let findings: Vec<_> =
        policy.check(NOW).iter().map(|finding| (finding.code(), finding.path().to_owned())).collect();
    let expected = [
        ("foreign_trust_domain", "forwarders[0].spiffe"),
        ("shadowed", "candidate.rules[1]"),
        ("unused_role", "candidate.roles.c"),
        ("foreign_trust_domain", "candidate.roles.c[0].spiffe"),
    ];
    assert_eq!(findings, expected.map(|(code, path)| (code, path.to_owned())));
}
