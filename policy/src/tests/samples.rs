//! Samples: what another version of a policy would decide, who reaches a path, and what somebody reaches.

use super::*;
use crate::samples;
use crate::samples::SamplePeer;
use crate::samples::SampleRequest;

const ROLES: &str = r#"
    "checkout": [{"spiffe": "spiffe://t/ns/shop/sa/checkout"}],
    "tenant": [{"spiffe": "spiffe://t/ns/{ns}/sa/*"}],
    "ops": [{"dns": "*.ops.t"}, {"email": "root@ops.t"}],
    "blue": [{"role": "tenant", "spiffe": "spiffe://t/ns/blue/**"}]"#;

fn with(rules: &str) -> Policy {
    policy(&format!(r#"{{"version": 1, "roles": {{{ROLES}}}, "rules": [{rules}]}}"#))
}

/// `GET /x by checkout: old -> new` for each verdict that differs.
fn differences(old: &Policy, new: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    samples::compare(old, new, &mut |request, peer, before, after| {
        if verdict(before) != verdict(after) {
            let who = peer.role.clone().or_else(|| peer.identity().map(|_| "stranger".to_owned()));
            let text = |decision: &Decision<'_>| decision.rule().unwrap_or_else(|| decision.reason().code()).to_owned();
            let who = who.unwrap_or_else(|| "nobody".to_owned());
            found.push(format!("{request} by {who}: {} -> {}", text(before), text(after)));
        }
    });
    found
}

#[test]
fn a_change_of_policy_is_seen_in_samples_of_what_it_is_about() {
    let read = r#"{"id": "read", "allow": ["checkout"], "methods": ["GET"], "paths": ["/orders/{id}"]}"#;
    let own = r#"{"id": "own", "allow": ["tenant"], "paths": ["/tenants/{ns}/**"]}"#;
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("nothing", read, read, &[]),
        ("a rule goes", read, "", &["GET /orders/id-a by checkout: read -> no_rule_matched"]),
        (
            "a method more",
            read,
            r#"{"id": "read", "allow": ["checkout"], "methods": ["GET", "PUT"], "paths": ["/orders/{id}"]}"#,
            &["PUT /orders/id-a by checkout: no_rule_matched -> read"],
        ),
        (
            "every method",
            read,
            r#"{"id": "read", "allow": ["checkout"], "paths": ["/orders/{id}"]}"#,
            &["OTHER /orders/id-a by checkout: no_rule_matched -> read"],
        ),
        (
            "a host",
            read,
            r#"{"id": "read", "allow": ["checkout"], "methods": ["GET"], "hosts": ["a.t"], "paths": ["/orders/{id}"]}"#,
            &["GET /orders/id-a by checkout: read -> no_rule_matched"],
        ),
        (
            "everything below",
            read,
            r#"{"id": "read", "allow": ["checkout"], "methods": ["GET"], "paths": ["/orders/**"]}"#,
            &[
                "GET /orders by checkout: no_rule_matched -> read",
                "GET /orders/x/x by checkout: no_rule_matched -> read",
            ],
        ),
        (
            "everybody",
            r#"{"id": "x", "allow": ["checkout"], "methods": ["GET"], "paths": ["/x"]}"#,
            r#"{"id": "x", "allow": "any", "methods": ["GET"], "paths": ["/x"]}"#,
            &[
                "GET /x by nobody: no_certificate -> x",
                "GET /x by stranger: no_rule_matched -> x",
                "GET /x by blue: no_rule_matched -> x",
                "GET /x by ops: no_rule_matched -> x",
                "GET /x by tenant: no_rule_matched -> x",
            ],
        ),
        (
            "not only one's own",
            own,
            r#"{"id": "own", "allow": ["tenant"], "paths": ["/tenants/*/**"]}"#,
            &["GET /tenants/ns-b by tenant: no_rule_matched -> own"],
        ),
        (
            "the same by another rule",
            read,
            r#"{"id": "write", "allow": ["checkout"], "methods": ["GET"], "paths": ["/orders/{id}"]}"#,
            &["GET /orders/id-a by checkout: read -> write"],
        ),
        (
            "a second member",
            r#"{"id": "x", "allow": ["ops"], "methods": ["GET"], "paths": ["/x"]}"#,
            r#"{"id": "x", "allow": ["blue"], "methods": ["GET"], "paths": ["/x"]}"#,
            &[
                "GET /x by ops: x -> no_rule_matched",
                "GET /x by ops: x -> no_rule_matched",
                "GET /x by blue: no_rule_matched -> x",
            ],
        ),
        (
            "a network",
            read,
            r#"{"id": "read", "allow": ["checkout"], "methods": ["GET"], "sources": ["10.0.0.0/8"], "paths": ["/orders/{id}"]}"#,
            &["GET /orders/id-a by checkout: read -> no_rule_matched"],
        ),
        (
            "another network",
            r#"{"id": "read", "allow": ["checkout"], "methods": ["GET"], "sources": ["10.0.0.0/8"], "paths": ["/orders/{id}"]}"#,
            r#"{"id": "read", "allow": ["checkout"], "methods": ["GET"], "sources": ["10.1.0.0/16"], "paths": ["/orders/{id}"]}"#,
            &["GET /orders/id-a from 10.0.0.0 by checkout: read -> no_rule_matched"],
        ),
        (
            "a deny rule",
            own,
            r#"{"id": "own", "allow": ["tenant"], "paths": ["/tenants/{ns}/**"]}, {"id": "no", "deny": ["blue"], "methods": ["GET"], "paths": ["/tenants/blue"]}"#,
            &["GET /tenants/blue by blue: own -> no"],
        ),
    ];
    for (name, old, new, want) in cases {
        let found = differences(&with(old), &with(new));
        for line in *want {
            let count = want.iter().filter(|other| *other == line).count();
            assert_eq!(found.iter().filter(|other| other == line).count(), count, "{name}: `{line}` in {found:#?}");
        }
        // More may differ (deeper paths, `HEAD`), but only in the same way.
        let ways: Vec<&str> = want.iter().filter_map(|line| line.split(": ").nth(1)).collect();
        for line in &found {
            assert!(ways.iter().any(|way| line.ends_with(way)), "{name}: {line}");
        }
    }
}

#[test]
fn a_role_that_changes_is_asked_about_with_both_of_its_certificates() {
    let with = |member: &str| {
        policy(&format!(
            r#"{{"version": 1, "roles": {{"a": [{member}]}}, "rules": [{{"id": "x", "allow": ["a"], "methods": ["GET"], "paths": ["/x"]}}]}}"#
        ))
    };
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (
            "another service",
            r#"{"spiffe": "spiffe://t/a"}"#,
            r#"{"spiffe": "spiffe://t/b"}"#,
            &["GET /x by a: x -> no_rule_matched", "GET /x by a: no_rule_matched -> x"],
        ),
        (
            "a condition more",
            r#"{"spiffe": "spiffe://t/a"}"#,
            r#"{"spiffe": "spiffe://t/a", "eku": ["client_auth"]}"#,
            &["GET /x by a: x -> no_rule_matched"],
        ),
        ("a wildcard", r#"{"dns": "a.t"}"#, r#"{"dns": "*.t"}"#, &["GET /x by a: no_rule_matched -> x"]),
        (
            "every kind of condition",
            r#"{"subject": {"ou": "a", "cn": "b"}, "issuer": {"o": "c", "key_id": "01"}, "ip": "10.0.0.0/8", "serial": "02"}"#,
            r#"{"uri": "https://a.t/", "email": "a@t", "spki_sha256": "0101010101010101010101010101010101010101010101010101010101010101", "sha256": "0202020202020202020202020202020202020202020202020202020202020202"}"#,
            &["GET /x by a: x -> no_rule_matched", "GET /x by a: no_rule_matched -> x"],
        ),
    ];
    for (name, old, new, want) in cases {
        assert_eq!(differences(&with(old), &with(new)), *want, "{name}");
    }
}

fn who(policy: &Policy, request: &str) -> Vec<String> {
    let mut found = Vec::new();
    let request = SampleRequest::parse(request).unwrap();
    let answer = samples::who(policy, &request, &mut |request, peer, decision| {
        let rule = decision.rule().unwrap_or_else(|| decision.reason().code());
        let role = peer.role.as_deref().unwrap_or("-");
        found.push(format!("{role} {} {rule}{}", peer.identity().unwrap_or("nobody"), request.facts));
    });
    answer.map_or_else(|reason| vec![reason.code().to_owned()], |()| found)
}

#[test]
fn who_reaches_a_path_is_answered_with_certificates_that_do() {
    let policy = with(
        r#"{"id": "own", "allow": ["tenant"], "paths": ["/tenants/{ns}/**"]},
           {"id": "ops", "allow": ["ops"], "methods": ["GET"], "hosts": ["{h}.t"], "paths": ["/tenants/**"]},
           {"id": "open", "allow": "any", "paths": ["/open"]},
           {"id": "near", "allow": ["ops"], "sources": ["10.0.0.0/8"], "not": {"sources": ["10.0.0.0"]}, "paths": ["/near"]},
           {"id": "far", "allow": ["ops"], "not": {"sources": ["10.0.0.0/8"]}, "paths": ["/near"]},
           {"id": "no", "deny": ["blue"], "paths": ["/tenants/blue/secret"]}"#,
    );
    let cases: &[(&str, &[&str])] = &[
        ("GET /tenants/red/x", &["tenant spiffe://t/ns/red/sa/x own"]),
        (
            "GET https://a.t/tenants/red/x",
            &["tenant spiffe://t/ns/red/sa/x own", "ops dns:x.ops.t ops", "ops email:root@ops.t ops"],
        ),
        ("PUT https://a.t/tenants/red", &["tenant spiffe://t/ns/red/sa/x own"]),
        ("GET /open", &["- nobody open", "- spiffe://stranger.example/nobody open"]),
        ("GET /tenants/blue/secret", &["tenant spiffe://t/ns/blue/sa/x no", "blue spiffe://t/ns/blue/sa/x no"]),
        (
            "GET /near",
            &[
                "ops dns:x.ops.t near from 10.0.0.1",
                "ops email:root@ops.t near from 10.0.0.1",
                "ops dns:x.ops.t far from 192.0.2.1",
                "ops email:root@ops.t far from 192.0.2.1",
            ],
        ),
        ("GET /elsewhere", &[]),
        ("GET /tenants/..", &["path_dot_segment"]),
        ("get /open", &["method_invalid"]),
    ];
    for (request, want) in cases {
        assert_eq!(who(&policy, request), *want, "{request}");
    }
}

#[test]
fn what_somebody_reaches_is_told_path_by_path() {
    let policy = with(
        r#"{"id": "own", "allow": ["tenant"], "methods": ["GET", "PUT"], "paths": ["/tenants/{ns}/{x}", "/t/{ns}/**"]},
           {"id": "ops", "allow": ["ops"], "hosts": ["{h}.t"]},
           {"id": "no", "deny": "any", "methods": ["PUT"], "paths": ["/t/**"]},
           {"id": "open", "allow": "any", "paths": ["/t/*"]}"#,
    );
    let told = |names: &str| -> Vec<String> {
        let peer = SamplePeer::named(&policy, names).unwrap();
        let ways = samples::what(&policy, peer.peer(), UnixTime(0));
        let all = |text: Option<String>| text.unwrap_or_else(|| "*".to_owned());
        let line = |way: samples::Way| {
            let methods = all(way.methods.map(|methods| methods.join(",")));
            let open = if way.open { "open" } else { "closed" };
            format!("{} {methods} {} {} {open} {}", way.rule, all(way.host), all(way.path), way.refused_by.join(","))
        };
        ways.into_iter().map(line).collect()
    };
    assert_eq!(
        told(r#"{"spiffe": "spiffe://t/ns/red/sa/a"}"#),
        [
            "own GET,PUT * /tenants/red/{x} open ",
            "own GET,PUT * /t/red/** open no",
            "no PUT * /t/** closed ",
            "open * * /t/* open "
        ]
    );
    assert_eq!(told(r#"{"dns": "a.ops.t"}"#), ["ops * {h}.t * open ", "no PUT * /t/** closed ", "open * * /t/* open "]);
    assert_eq!(told(r#""none""#), ["no PUT * /t/** closed ", "open * * /t/* open "]);
}

#[test]
fn a_peer_that_is_written_wrong_is_refused_with_its_field() {
    let policy = with("");
    let cases = [
        (r#"{"spiffe": "acme"}"#, "spiffe"),
        (r#"{"spifee": "spiffe://t/a"}"#, "spifee"),
        (r#""somebody""#, ""),
        (r#"{"ip": "x"}"#, "ip"),
        (r#""none" x"#, ""),
    ];
    for (names, path) in cases {
        let error = SamplePeer::named(&policy, names).unwrap_err();
        assert_eq!(error.path(), path, "{names}: {error}");
    }
}
