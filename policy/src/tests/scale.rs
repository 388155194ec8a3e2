//! Large and hostile policies: what is bounded, and that bounds are not met by honest ones. No times are asserted.

use super::*;

fn rules(count: usize, rule: impl Fn(usize) -> String) -> String {
    (0..count).map(rule).collect::<Vec<_>>().join(",")
}

#[test]
fn many_rules_for_one_path_are_told_apart_by_role() {
    let count = 5_000;
    let roles = rules(count, |n| format!(r#""role-{n}": [{{"spiffe": "spiffe://t/{n}"}}]"#));
    let rules = rules(count, |n| format!(r#"{{"id": "rule-{n}", "allow": ["role-{n}"], "paths": ["/same/**"]}}"#));
    let policy = policy(&format!(r#"{{"version": 1, "roles": {{{roles}}}, "rules": [{rules}]}}"#));
    assert_eq!(policy.rule_count(), count);
    for number in [0, 17, count - 1] {
        let subject = policy.subject(spiffe(&format!("spiffe://t/{number}")));
        let decision = policy.decide(&request(presented(Some(&subject)), "GET", None, "/same/x"));
        assert_eq!(decision.rule(), Some(format!("rule-{number}").as_str()));
    }
    assert_eq!(policy.check(NOW), []);
}

#[test]
fn many_roles_of_one_peer_are_told_apart_by_rule() {
    let roles = rules(2_000, |n| format!(r#""role-{n}": [{{"spiffe": "spiffe://t/**"}}]"#));
    let policy = policy(&format!(
        r#"{{"version": 1, "roles": {{{roles}}}, "rules": [{{"id": "r", "allow": ["role-77"], "paths": ["/x"]}}]}}"#
    ));
    let subject = policy.subject(spiffe("spiffe://t/a"));
    assert_eq!(subject.roles().len(), 2_000);
    let decision = policy.decide(&request(presented(Some(&subject)), "GET", None, "/x"));
    assert_eq!(decision.rule(), Some("r"));
}

#[test]
fn a_policy_that_would_make_decisions_slow_is_refused() {
    let refused = |text: &str| {
        let error = Policy::from_json(text.as_bytes()).unwrap_err();
        assert!(matches!(error.problem(), crate::PolicyProblem::TooMany { .. }), "{error}");
        error.to_string()
    };
    // Every arrangement of wildcards over eleven segments: a walk would double with each segment.
    let path = |n: usize| -> String { (0..11).map(|bit| if n >> bit & 1 == 1 { "/*" } else { "/a" }).collect() };
    let all = rules(2048, |n| format!(r#"{{"id": "r{n}", "allow": "any", "paths": ["{}"]}}"#, path(n)));
    let message = refused(&format!(r#"{{"version": 1, "rules": [{all}]}}"#));
    assert_eq!(message, "more than 1024 arrangements of wildcards in paths");

    let methods = rules(64, |n| format!(r#""M{n}""#));
    let message =
        refused(&format!(r#"{{"version": 1, "rules": [{{"id": "r", "allow": "any", "methods": [{methods}]}}]}}"#));
    assert_eq!(message, "more than 63 different methods");

    let captures = rules(300, |n| format!(r#"{{"id": "r{n}", "allow": "any", "paths": ["/{{x{n}}}/{{x{n}}}"]}}"#));
    let message = refused(&format!(r#"{{"version": 1, "rules": [{captures}]}}"#));
    assert!(message.contains("nothing but methods, captures and conditions"), "{message}");

    let long = "/a".repeat(33);
    let error = Policy::from_json(
        format!(r#"{{"version": 1, "rules": [{{"id": "r", "allow": "any", "paths": ["{long}"]}}]}}"#).as_bytes(),
    );
    assert!(error.unwrap_err().to_string().contains("more than 32 segments"));
}

#[test]
fn a_path_longer_than_any_pattern_is_matched_by_its_beginning_only() {
    let policy = policy(
        r#"{"version": 1, "rules": [
            {"id": "deep", "allow": "any", "paths": ["/a/**"]},
            {"id": "exact", "allow": "any", "paths": ["/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b/b"]}
        ]}"#,
    );
    let decide = |path: &str| verdict(&policy.decide(&request(Peer::Absent, "GET", None, path))).1.map(str::to_owned);
    assert_eq!(decide(&"/a".repeat(500)).as_deref(), Some("deep"));
    assert_eq!(decide(&"/b".repeat(32)).as_deref(), Some("exact"));
    assert_eq!(decide(&"/b".repeat(33)), None);
}
