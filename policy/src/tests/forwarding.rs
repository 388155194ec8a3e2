//! Clients behind forwarders: who is meant, and who is not believed.

use std::sync::Arc;

use super::*;
use crate::Memory;
use crate::signature::PureRust;

const EDGE: &str = "spiffe://acme.example/edge";
const PEER: &str = "spiffe://acme.example/peer";

const POLICY: &str = r#"{
    "version": 1,
    "forwarders": [{"spiffe": "spiffe://acme.example/edge"}],
    "roles": {
        "peer": [{"spiffe": "spiffe://acme.example/peer"}],
        "edge": [{"spiffe": "spiffe://acme.example/edge"}],
        "all": [{"spiffe": "spiffe://acme.example/**"}]
    },
    "rules": [
        {"id": "peer", "allow": ["peer"], "paths": ["/peer"]},
        {"id": "edge", "allow": ["edge"], "paths": ["/edge"]},
        {"id": "all", "allow": ["all"], "paths": ["/all"]},
        {"id": "open", "allow": "any", "paths": ["/open"]}
    ]
}"#;

fn ask<'p>(policy: &'p Policy, peer: Option<&'p Subject>, forwarded: &'p Forwarded, path: &'p str) -> Decision<'p> {
    let asked = request(presented(peer), "GET", None, path);
    policy.decide(&Request { forwarded, ..asked })
}

#[test]
fn behind_a_forwarder_everything_is_about_the_client() {
    let policy = policy(POLICY);
    let edge = policy.subject(spiffe(EDGE));
    let client = Forwarded::Certificate(Arc::new(policy.subject(spiffe(PEER))));
    let decision = ask(&policy, Some(&edge), &client, "/peer");
    assert_eq!(verdict(&decision), (Reason::RuleMatched, Some("peer")));
    assert_eq!((decision.identity(), decision.forwarder()), (Some(PEER), Some(EDGE)));
    assert_eq!(decision.roles(), ["all", "peer"]);
    assert_eq!(verdict(&ask(&policy, Some(&edge), &client, "/edge")), (Reason::NoRuleMatched, None));
    assert_eq!(verdict(&ask(&policy, Some(&edge), &client, "/all")), (Reason::RuleMatched, Some("all")));
}

#[test]
fn a_forwarder_is_never_taken_for_its_client() {
    let policy = policy(POLICY);
    let edge = policy.subject(spiffe(EDGE));
    assert!(edge.roles().is_empty());
    for path in ["/peer", "/edge", "/all"] {
        let decision = ask(&policy, Some(&edge), &Forwarded::Nothing, path);
        assert_eq!(verdict(&decision), (Reason::NoCertificate, None), "{path}");
        assert_eq!((decision.identity(), decision.roles().len()), (None, 0), "{path}");
        assert_eq!(decision.forwarder(), Some(EDGE), "{path}");
    }
    assert_eq!(verdict(&ask(&policy, Some(&edge), &Forwarded::Nothing, "/open")), (Reason::RuleMatched, Some("open")));

    // Nor one forwarder for the client of another.
    let other = Forwarded::Certificate(Arc::new(policy.subject(spiffe(EDGE))));
    assert_eq!(verdict(&ask(&policy, Some(&edge), &other, "/edge")), (Reason::NoRuleMatched, None));
}

#[test]
fn who_is_not_believed_has_no_identity() {
    let policy = policy(POLICY);
    let edge = policy.subject(spiffe(EDGE));
    let refused = Forwarded::Refused(Reason::ForwardedNamesMismatch);
    let decision = ask(&policy, Some(&edge), &refused, "/open");
    assert_eq!(verdict(&decision), (Reason::ForwardedNamesMismatch, None));
    assert_eq!((decision.identity(), decision.forwarder()), (None, Some(EDGE)));

    // What a forwarder says that is not believed itself.
    let client = Forwarded::Certificate(Arc::new(policy.subject(spiffe(PEER))));
    let asked = request(Peer::Presented { subject: &edge, validated: false }, "GET", None, "/peer");
    let asked = Request { forwarded: &client, ..asked };
    let decision = policy.decide(&asked);
    assert_eq!((decision.reason(), decision.identity()), (Reason::CertificateNotValidated, None));
}

#[test]
fn a_certificate_that_nobody_may_forward_is_refused() {
    let policy = policy(POLICY);
    let peer = policy.subject(spiffe(PEER));
    let edge = policy.subject(spiffe(EDGE));
    let names = [
        "x-forwarded-client-cert",
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        "x.forwarded.client.cert",
        "client-cert",
        "Client_Cert",
        "client-cert-chain",
        "client.cert-chain",
    ];
    for name in names {
        let fields = vec![(name.as_bytes(), &b"Cert=\"x\""[..])];
        for subject in [None, Some(&peer)] {
            let peer = presented(subject);
            let mut asked = request(peer, "GET", None, "/open");
            asked.head.fields.clone_from(&fields);
            let unread = policy.decide(&asked).reason();
            assert_eq!(unread, Reason::ForwarderUntrusted, "{name}, and nobody looked");
            let forwarded = Memory::default().forwarded(&policy, &peer, &asked.head, &mut PureRust);
            let decision = policy.decide(&Request { forwarded: &forwarded, ..asked });
            assert_eq!(decision.reason(), Reason::ForwarderUntrusted, "{name}");
            assert_eq!(decision.identity(), subject.map(|_| PEER), "{name}");
        }
        // A forwarder may send them, and nobody can read this.
        let mut asked = request(presented(Some(&edge)), "GET", None, "/open");
        asked.head.fields = fields;
        let forwarded = Memory::default().forwarded(&policy, &asked.peer, &asked.head, &mut PureRust);
        let reason = policy.decide(&Request { forwarded: &forwarded, ..asked }).reason();
        let want = match name {
            "x-forwarded-client-cert" | "X-Forwarded-Client-Cert" => Reason::CertificateUnreadable,
            "client-cert" | "client-cert-chain" => Reason::ForwardedUnparsable,
            _ => Reason::ForwardedAlias,
        };
        assert_eq!(reason, want, "{name}, of a forwarder");
    }
    for name in ["x-forwarded-client-certs", "forwarded-client-cert", "xforwarded-client-cert", "client-certificate"] {
        let mut asked = request(presented(Some(&peer)), "GET", None, "/open");
        asked.head.fields = vec![(name.as_bytes(), b"x")];
        assert_eq!(policy.decide(&asked).reason(), Reason::RuleMatched, "{name}");
    }
}

#[test]
fn a_field_that_occurs_twice_is_refused_whoever_sent_it() {
    let policy = policy(POLICY);
    let edge = policy.subject(spiffe(EDGE));
    let xfcc = (&b"x-forwarded-client-cert"[..], &b"URI=a"[..]);
    let upper = (&b"X-FORWARDED-CLIENT-CERT"[..], &b"URI=a"[..]);
    let client_cert = (&b"client-cert"[..], &b":AAAA:"[..]);
    let chain = (&b"client-cert-chain"[..], &b":AAAA:"[..]);
    let cases = [
        ("XFCC", vec![xfcc, xfcc], Reason::HeaderDuplicated),
        ("XFCC in two cases", vec![xfcc, upper], Reason::HeaderDuplicated),
        ("Client-Cert", vec![client_cert, client_cert], Reason::HeaderDuplicated),
        ("both", vec![xfcc, client_cert], Reason::ForwardedAmbiguous),
        ("XFCC and a chain", vec![chain, xfcc], Reason::ForwardedAmbiguous),
        ("Connection takes it away", vec![xfcc, (b"connection", b"X-Forwarded-Client-Cert")], Reason::HeaderForbidden),
        (
            "Connection takes it away",
            vec![client_cert, (b"connection", b"close, client_cert")],
            Reason::HeaderForbidden,
        ),
    ];
    for (name, fields, want) in cases {
        for peer in [Peer::Absent, presented(Some(&edge))] {
            let mut asked = request(peer, "GET", None, "/open");
            asked.head.fields.clone_from(&fields);
            let forwarded = Memory::default().forwarded(&policy, &peer, &asked.head, &mut PureRust);
            assert_eq!(policy.decide(&Request { forwarded: &forwarded, ..asked }).reason(), want, "{name}");
        }
    }
}

#[test]
fn what_was_read_for_another_peer_is_not_believed() {
    let policy = policy(POLICY);
    let peer = policy.subject(spiffe(PEER));
    let client = Forwarded::Certificate(Arc::new(policy.subject(spiffe(PEER))));
    assert_eq!(ask(&policy, Some(&peer), &client, "/peer").reason(), Reason::InternalError);
    assert_eq!(ask(&policy, None, &client, "/peer").reason(), Reason::InternalError);
}

#[test]
fn the_policy_s_own_tests_know_forwarders() {
    let tests = r#", "tests": [
        {"name": "behind", "peer": {"spiffe": "spiffe://acme.example/peer"}, "forwarded_by": {"spiffe": "spiffe://acme.example/edge"},
         "request": "GET /peer", "expect": {"allow": "peer"}},
        {"name": "nobody behind", "peer": "none", "forwarded_by": {"spiffe": "spiffe://acme.example/edge"},
         "request": "GET /edge", "expect": {"deny": "no_certificate"}},
        {"name": "no forwarder", "peer": {"spiffe": "spiffe://acme.example/peer"}, "forwarded_by": {"spiffe": "spiffe://acme.example/x"},
         "request": "GET /peer", "expect": {"deny": "forwarder_untrusted"}}
    ]}"#;
    let text = POLICY.trim_end_matches('}').to_owned() + tests;
    let policy = policy(&text);
    assert_eq!(policy.run_tests(), []);
    let again = super::policy(&policy.to_json());
    assert_eq!((again.run_tests(), again.version()), (vec![], policy.version()));
}

#[test]
fn forwarders_are_rendered_as_they_are_understood() {
    let policy = policy(
        r#"{"version": 1, "rules": [], "own_xfcc": true, "forwarders": [
            {"dns": "Edge.acme.example", "keep": true},
            {"spiffe": "spiffe://acme.example/edge/*", "eku": ["client_auth"], "hops": 2, "by": "spiffe://acme.example/inner"}
        ]}"#,
    );
    let json: serde_json::Value = serde_json::from_str(&policy.to_json()).unwrap();
    assert_eq!(
        json["forwarders"],
        serde_json::json!([
            {"dns": "edge.acme.example", "hops": 1, "keep": true},
            {"spiffe": "spiffe://acme.example/edge/*", "eku": ["1.3.6.1.5.5.7.3.2"], "hops": 2,
             "by": "spiffe://acme.example/inner", "keep": false},
        ])
    );
    assert_eq!(json["own_xfcc"], serde_json::json!(true));
    assert_eq!(super::policy(&policy.to_json()).version(), policy.version());
}
