//! `bound-tokens`: a token that names a certificate (RFC 8705 §3) is good with that one only. Whoever steals it gets nowhere,
//! with a certificate of the same name, behind a proxy, or without any.

use serde_json::Value;
use serde_json::json;

use super::CHECKOUT;
use super::edge::EDGE;
use super::edge::Edge;
use super::gate::BEHIND_AN_EDGE;
use super::gate::CERTIFICATE_OPTIONAL;
use super::gate::Difference;
use super::gate::Gate;
use super::gate::no_trap;
use crate::certificates::Leaf;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::report::Report;
use crate::report::StoryError;
use crate::tokens;
use crate::tokens::TokenIssuer;
use crate::tokens::bound_to;
use crate::tokens::table;

/// Who asks, with which token, and what becomes of it.
type Case<'a> = (&'a str, Option<&'a Leaf>, &'a str, &'a str);

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("a gate whose tokens must be bound to a certificate, and which insists on none in the handshake");
    let issuer = TokenIssuer::new("k", "ES256");
    let policy = json!({
        "version": 1,
        "trust_domain": "acme.example",
        "forwarders": [{ "spiffe": EDGE }],
        "tokens": { "corp": tokens::provider(&[&issuer], "required") },
        "rules": [
            { "id": "read", "allow": "any", "scopes": ["read"], "paths": ["/orders/{id}"] },
            { "id": "health", "allow": "any", "paths": ["/healthz"] },
        ],
    });
    let envoy = [CERTIFICATE_OPTIONAL, BEHIND_AN_EDGE];
    let gate = Gate::start(&policy.to_string(), &Difference { envoy: &envoy, ..Difference::default() }).await?;

    // One name, two keys: the second may be a thief's, or the owner's own after a renewal.
    let [owner, thief] = [CHECKOUT, CHECKOUT].map(|name| gate.own.leaf().uri(name).issue());
    let now = jiff::Timestamp::now().as_second();
    let with = |cnf: Value| {
        let mut claims = tokens::claims(now);
        claims["cnf"] = cnf;
        issuer.sign(&claims)
    };
    let bound = with(bound_to(owner.der()));
    let unbound = issuer.sign(&tokens::claims(now));

    let held: Vec<Case<'_>> = vec![
        ("the owner of the certificate", Some(&owner), &bound, "200"),
        ("a thief with a certificate of the same name", Some(&thief), &bound, "401 token_certificate_mismatch"),
        ("a thief without a certificate", None, &bound, "401 token_certificate_missing"),
        ("the owner again, whose token is remembered", Some(&owner), &bound, "200"),
        ("the thief again", Some(&thief), &bound, "401 token_certificate_mismatch"),
        ("the owner with a token that is not bound", Some(&owner), &unbound, "401 token_not_bound"),
        ("somebody without a certificate and with that", None, &unbound, "401 token_not_bound"),
    ];
    for protocol in [Http1, Http2] {
        report.step(format_args!("over {protocol}"));
        for case in &held {
            ask(report, &gate, &gate.client(case.1, protocol)?, case).await?;
        }
    }

    report.step("tokens whose `cnf` is not exactly one thumbprint of a certificate");
    let odd: Vec<(&str, String, &str)> =
        table::confirmations(&owner).into_iter().map(|(claim, cnf, expected)| (claim, with(cnf), expected)).collect();
    for (claim, token, expected) in &odd {
        let case = (*claim, Some(&owner), token.as_str(), *expected);
        ask(report, &gate, &gate.client(case.1, Http1)?, &case).await?;
    }

    report.step("behind a proxy that forwards its clients' certificates");
    let edge = Edge::new("SANITIZE_SET", "JSON").start(&gate).await?;
    let of_edge = with(bound_to(edge.leaf.der()));
    let forwarded: Vec<Case<'_>> = vec![
        ("the forwarded certificate is the one that counts", Some(&owner), &bound, "200"),
        ("a thief behind the proxy", Some(&thief), &bound, "401 token_certificate_mismatch"),
        ("nobody behind the proxy", None, &bound, "401 token_certificate_missing"),
        ("the proxy's own certificate counts for nobody", Some(&owner), &of_edge, "401 token_certificate_mismatch"),
        ("nor for those without one", None, &of_edge, "401 token_certificate_missing"),
    ];
    for case in &forwarded {
        ask(report, &gate, &gate.client_at(edge.address, case.1, Http1)?, case).await?;
    }
    no_trap(&gate.envoy, report).await
}

/// Asks for what needs the token and for what needs none: who shows a bad token is trusted with neither.
async fn ask(report: &mut Report, gate: &Gate, client: &Client, case: &Case<'_>) -> Result<(), StoryError> {
    let (claim, _, token, expected) = case;
    let mut seen = Vec::new();
    gate.upstream.take_seen();
    for path in ["/orders/1", "/healthz"] {
        let answer = client.ask(&Ask::get(path).with("authorization", format!("Bearer {token}"))).await;
        let answer = answer.map_err(|source| StoryError::Request { doing: format!("no answer: {claim}"), source })?;
        seen.push(format!("{} {}", answer.status.as_u16(), answer.code()).trim_end().to_owned());
    }
    let reached = gate.upstream.take_seen().len();
    let good = seen.iter().all(|seen| seen == expected) && reached == if *expected == "200" { 2 } else { 0 };
    report.holds(claim, good, seen.first().cloned().unwrap_or_default())
}
