//! TCP connections: the rules under `tcp:`, and nobody else's.

use std::net::SocketAddr;

use super::*;
use crate::Decision;

const PEER: &str = "spiffe://t/a";

/// A connection of who presents `leaf`, to 10.0.0.1:5432 from 192.0.2.7 as `db.t`.
fn connection<'a>(subject: Option<&'a Subject>) -> Request<'a> {
    Request {
        protocol: Protocol::Tcp,
        listener: Some("10.0.0.1:5432".parse().unwrap()),
        source: Some("192.0.2.7".parse().unwrap()),
        tls: Tls { version: Some("TLSv1.3"), sni: Some("db.t") },
        head: Head::default(),
        ..request(presented(subject), "", None, "")
    }
}

fn with(tcp: &str) -> Policy {
    policy(&format!(
        r#"{{"version": 1, "roles": {{"a": [{{"spiffe": "{PEER}"}}], "other": [{{"spiffe": "spiffe://t/b"}}]}},
            "rules": [{{"id": "http", "allow": "any"}}], "tcp": [{tcp}]}}"#
    ))
}

fn refusal(text: &str) -> String {
    let error = Policy::from_json(text.as_bytes()).unwrap_err();
    format!("{}: {error}", error.path())
}

#[test]
fn a_connection_is_decided_by_its_own_rules() {
    for (tcp, reason, rule) in [
        ("", Reason::NoRuleMatched, None),
        (r#"{"id": "t", "allow": ["a"]}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["other"]}"#, Reason::NoRuleMatched, None),
        (r#"{"id": "t", "allow": ["a"]}, {"id": "d", "deny": ["a"]}"#, Reason::DenyRuleMatched, Some("d")),
        (r#"{"id": "t", "allow": ["a"]}, {"id": "d", "deny": ["a"], "shadow": true}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["a"], "listeners": [":5432"]}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["a"], "listeners": [":1", "10.0.0.1:5432"]}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["a"], "listeners": ["10.0.0.2:5432"]}"#, Reason::NoRuleMatched, None),
        (r#"{"id": "t", "allow": ["a"], "not": {"listeners": [":5432"]}}"#, Reason::NoRuleMatched, None),
        (r#"{"id": "t", "allow": ["a"], "not": {"listeners": [":5433"]}}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["a"], "sni": ["*.t"]}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["a"], "sni": ["other.t"]}"#, Reason::NoRuleMatched, None),
        (r#"{"id": "t", "allow": ["a"], "sources": ["192.0.2.0/24"]}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["a"], "sources": ["10.0.0.0/8"]}"#, Reason::NoRuleMatched, None),
        (r#"{"id": "t", "allow": ["a"], "tls": {"min_version": "1.3"}}"#, Reason::RuleMatched, Some("t")),
        (r#"{"id": "t", "allow": ["a"], "times": [{"until": "1990-01-01T00:00:00Z"}]}"#, Reason::NoRuleMatched, None),
    ] {
        let policy = with(tcp);
        let subject = policy.subject(spiffe(PEER));
        let asked = connection(Some(&subject));
        assert_eq!(verdict(&policy.decide(&asked)), (reason, rule), "{tcp}");
        let http = Request { protocol: Protocol::Http, ..request(presented(Some(&subject)), "GET", None, "/") };
        assert_eq!(verdict(&policy.decide(&http)), (Reason::RuleMatched, Some("http")), "{tcp}");
        let again = Policy::from_json(policy.to_json().as_bytes()).unwrap();
        assert_eq!(again.version(), policy.version(), "{tcp}");
        let explained = policy.explain(&asked);
        let matching = explained.rules.iter().filter(|rule| rule.failed.is_none() && !rule.shadow);
        assert_eq!(matching.count() > 0, rule.is_some(), "{tcp}");
    }
}

#[test]
fn what_is_not_known_of_a_connection_is_in_nobodys_favour() {
    let policy = with(r#"{"id": "t", "allow": ["a"], "not": {"listeners": [":1"]}}"#);
    let subject = policy.subject(spiffe(PEER));
    let unknown = Request { listener: None, ..connection(Some(&subject)) };
    assert_eq!(policy.decide(&unknown).reason(), Reason::NoRuleMatched);
    assert!(policy.needs(Protocol::Tcp).listener);
    assert!(!policy.needs(Protocol::Http).listener, "no request is asked for it");
}

#[test]
fn the_standing_of_a_certificate_counts_for_connections_too() {
    let policy = with(r#"{"id": "t", "allow": "any"}"#);
    let subject = policy.subject(spiffe(PEER));
    let decide = |request: Request<'_>| policy.decide(&request).reason();
    assert_eq!(decide(connection(None)), Reason::RuleMatched, "anybody is also who has no certificate");
    let late = Request { now: UnixTime(i64::MAX), ..connection(Some(&subject)) };
    assert_eq!(decide(late), Reason::CertificateExpired);
    let early = Request { now: UnixTime(0), ..connection(Some(&subject)) };
    assert_eq!(decide(early), Reason::CertificateNotYetValid);
    let unchecked = Peer::Presented { subject: &subject, validated: false };
    assert_eq!(decide(Request { peer: unchecked, ..connection(None) }), Reason::CertificateNotValidated);

    let revoked = policy_of_somebody_revoked();
    let subject = revoked.subject(spiffe(PEER));
    assert_eq!(revoked.decide(&connection(Some(&subject))).reason(), Reason::CertificateRevoked);
    let nobody = with(r#"{"id": "t", "allow": ["a"]}"#);
    assert_eq!(nobody.decide(&connection(None)).reason(), Reason::NoCertificate);
}

fn policy_of_somebody_revoked() -> Policy {
    // As `unnamed` has it.
    let sha256 = "01".repeat(32);
    policy(&format!(
        r#"{{"version": 1, "rules": [], "tcp": [{{"id": "t", "allow": "any"}}], "revoked": {{"sha256": ["{sha256}"]}}}}"#
    ))
}

#[test]
fn a_forwarder_speaks_for_nobody_over_tcp() {
    let policy = policy(
        r#"{"version": 1, "forwarders": [{"spiffe": "spiffe://t/a"}], "roles": {"a": [{"spiffe": "spiffe://t/a"}]},
            "rules": [], "tcp": [{"id": "t", "allow": ["a"]}]}"#,
    );
    let subject = policy.subject(spiffe(PEER));
    assert_eq!(policy.decide(&connection(Some(&subject))).reason(), Reason::NoCertificate);
}

#[test]
fn a_candidate_has_its_own() {
    let policy = policy(
        r#"{"version": 1, "rules": [], "tcp": [{"id": "t", "allow": "any"}],
            "candidate": {"version": 1, "rules": [], "tcp": [{"id": "t", "allow": "any", "listeners": [":1"]}]}}"#,
    );
    let asked = connection(None);
    let decision = policy.decide(&asked);
    assert!(matches!(decision, Decision::Allow(_)));
    assert_eq!(decision.candidate().map(|other| other.reason()), Some(Reason::NoCertificate));
    assert!(policy.needs(Protocol::Tcp).listener, "the candidate asks for it");
}

#[test]
fn a_connection_is_judged_again_when_a_window_closes() {
    let policy = with(r#"{"id": "t", "allow": "any", "times": [{"until": "2040-01-01T00:00:00Z"}]}"#);
    assert_eq!(policy.reconsider_at(&connection(None)), Some(UnixTime(2_208_988_800)));
}

#[test]
fn what_a_connection_has_none_of_is_refused_with_its_place() {
    for (tcp, place) in [
        (r#"{"id": "t", "allow": "any", "methods": ["GET"]}"#, "tcp[0].methods"),
        (r#"{"id": "t", "allow": "any", "paths": ["/"]}"#, "tcp[0].paths"),
        (r#"{"id": "t", "allow": "any", "scopes": ["a"]}"#, "tcp[0].scopes"),
        (r#"{"id": "t", "allow": "any", "not": {"headers": {"a": "b"}}}"#, "tcp[0].not.headers"),
        (r#"{"id": "t", "allow": "any", "listeners": []}"#, "tcp[0].listeners"),
        (r#"{"id": "t", "allow": "any", "listeners": ["db:5432"]}"#, "tcp[0].listeners[0]"),
        (r#"{"id": "t", "allow": ["x"]}"#, "tcp[0].allow[0]"),
        (r#"{"id": "t"}"#, "tcp[0]"),
        (r#"{"id": "t", "allow": "any"}, {"id": "t", "deny": "any"}"#, "tcp[1].id"),
        (r#"{"id": "http", "allow": "any"}"#, "tcp[0].id"),
    ] {
        let text = format!(r#"{{"version": 1, "rules": [{{"id": "http", "allow": "any"}}], "tcp": [{tcp}]}}"#);
        let refusal = refusal(&text);
        assert!(refusal.starts_with(&format!("{place}: ")), "{tcp}: {refusal}");
    }
}

#[test]
fn tests_of_a_policy_can_be_about_connections() {
    let text = |test: &str| {
        format!(
            r#"{{"version": 1, "roles": {{"a": [{{"spiffe": "{PEER}"}}]}}, "rules": [],
                "tcp": [{{"id": "t", "allow": ["a"], "listeners": [":5432"]}}],
                "tests": [{{"name": "n", "peer": {{"spiffe": "{PEER}"}}, {test}}}]}}"#
        )
    };
    for (test, fails) in [
        (r#""connection": "10.0.0.1:5432", "expect": {"allow": "t"}"#, false),
        (r#""connection": "[::1]:5432", "expect": {"allow": "t"}"#, false),
        (r#""connection": "10.0.0.1:5433", "expect": {"deny": "no_rule_matched"}"#, false),
        (r#""connection": "10.0.0.1:5433", "expect": {"allow": "t"}"#, true),
        (r#""request": "GET /", "listener": "10.0.0.1:5432", "expect": {"allow": "t"}"#, true),
    ] {
        let policy = policy(&text(test));
        assert_eq!(!policy.run_tests().is_empty(), fails, "{test}");
        let again = Policy::from_json(policy.to_json().as_bytes()).unwrap();
        assert_eq!(again.version(), policy.version(), "{test}");
    }
    for (test, place) in [
        (r#""connection": ":5432", "expect": {"allow": "t"}"#, "tests[0].connection"),
        (r#""connection": "10.0.0.1:1", "request": "GET /", "expect": {"allow": "t"}"#, "tests[0]"),
        (r#""expect": {"allow": "t"}"#, "tests[0]"),
        (r#""connection": "10.0.0.1:1", "host": "a.t", "expect": {"allow": "t"}"#, "tests[0].host"),
        (r#""request": "GET /", "listener": "x", "expect": {"allow": "t"}"#, "tests[0].listener"),
    ] {
        let refusal = refusal(&text(test));
        assert!(refusal.starts_with(&format!("{place}: ")), "{test}: {refusal}");
    }
}

#[test]
fn listeners_are_for_requests_too() {
    let policy = policy(r#"{"version": 1, "rules": [{"id": "r", "allow": "any", "listeners": [":443"]}]}"#);
    let at = |place: &str| {
        let listener: SocketAddr = place.parse().unwrap();
        policy.decide(&Request { listener: Some(listener), ..request(Peer::Absent, "GET", None, "/") }).is_allowed()
    };
    assert!(at("10.0.0.1:443"));
    assert!(!at("10.0.0.1:8443"));
}

#[test]
fn rules_about_connections_are_checked() {
    let policy = with(r#"{"id": "t", "allow": "any"}, {"id": "late", "allow": ["a"]}"#);
    let findings: Vec<_> =
        policy.check(NOW).iter().map(|finding| (finding.code(), finding.path().to_owned())).collect();
    assert!(findings.contains(&("shadowed", "tcp[1]".to_owned())), "{findings:?}");
    assert!(!findings.contains(&("unused_role", "roles.a".to_owned())), "{findings:?}");
    assert!(findings.contains(&("unused_role", "roles.other".to_owned())), "{findings:?}");
}
