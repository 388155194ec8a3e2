//! `forwarder`: two Envoys in a row. What the first one says of its clients is believed if it is trusted and if the
//! certificates that it forwards prove it; names that try to forge its word are refused.

use rcgen::DnType;
use serde_json::json;

use super::CHECKOUT;
use super::REPORTING;
use super::edge::EDGE;
use super::edge::Edge;
use super::gate::BEHIND_AN_EDGE;
use super::gate::Difference;
use super::gate::Gate;
use crate::certificates::Leaf;
use crate::environment::Protocol::Http1;
use crate::environment::client::HOST_NAME;
use crate::environment::raw;
use crate::report::Report;
use crate::report::StoryError;

/// A proxy that nobody trusts to forward.
const OTHER_EDGE: &str = "spiffe://acme.example/other-edge";

/// Somebody at the edge, what they send along, and what becomes of it: the identity that the service sees, or the code.
type Case<'a> = (&'a str, Option<&'a Leaf>, Option<String>, Result<&'a str, &'a str>);

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("the gate: Envoy with the filter, which believes one forwarder");
    let policy = json!({
        "version": 1,
        "trust_domain": "acme.example",
        "forwarders": [{ "spiffe": EDGE }],
        "roles": { "checkout": [{ "spiffe": CHECKOUT }], "reporting": [{ "spiffe": REPORTING }] },
        "rules": [{ "id": "read", "allow": ["checkout", "reporting"], "methods": ["GET"], "paths": ["/orders/**"] }],
    });
    let gate =
        Gate::start(&policy.to_string(), &Difference { envoy: &[BEHIND_AN_EDGE], ..Difference::default() }).await?;

    let checkout = gate.own.leaf().uri(CHECKOUT).issue();
    let reporting =
        gate.own.leaf().uri(REPORTING).dns("daily.acme.example").subject(DnType::CommonName, "a \"b\", c\\").issue();
    let sly = gate.own.leaf().uri(format!("{REPORTING},URI={CHECKOUT}")).issue();
    let whole = format!(
        "{REPORTING},By={EDGE};Hash={};Cert=\"{}\";URI={CHECKOUT}",
        checkout.sha256_hex(),
        url_encoded(&checkout)
    );
    let forger = gate.own.leaf().uri(&whole).issue();
    let dns_forger = gate.own.leaf().uri(REPORTING).dns(&whole).issue();
    let claim =
        || Some(format!("By={EDGE};Hash={};Cert=\"{}\";URI={CHECKOUT}", checkout.sha256_hex(), url_encoded(&checkout)));
    let harmless = || Some(format!("URI={CHECKOUT}"));
    let json_claim = || Some(json!([{ "uri": [CHECKOUT] }]).to_string());

    report.step("an edge that replaces what clients send (`SANITIZE_SET`)");
    let sanitizing: Vec<Case<'_>> = vec![
        ("checkout is known behind the edge", Some(&checkout), None, Ok(CHECKOUT)),
        ("so is reporting, with every kind of name", Some(&reporting), None, Ok(REPORTING)),
        ("who claims to be checkout is not", Some(&reporting), claim(), Ok(REPORTING)),
        ("who claims it in JSON is not", Some(&reporting), json_claim(), Ok(REPORTING)),
        ("nobody behind the edge is nobody", None, None, Err("no_certificate")),
        ("a name that begins another element", Some(&sly), None, Err("forwarded_certificate_missing")),
        ("a name that is a whole element", Some(&forger), None, Err("forwarded_names_mismatch")),
        ("a DNS name that is one", Some(&dns_forger), None, Err("forwarded_names_mismatch")),
    ];
    ask_all(report, &gate, &Edge::new("SANITIZE_SET", "TEXT"), &sanitizing).await?;

    report.step("an edge that appends to what clients send (`APPEND_FORWARD`)");
    let appending: Vec<Case<'_>> = vec![
        ("checkout is known", Some(&checkout), None, Ok(CHECKOUT)),
        ("what a client sent stands left and is not believed", Some(&reporting), harmless(), Ok(REPORTING)),
        ("nor in JSON", Some(&reporting), json_claim(), Ok(REPORTING)),
        ("a client that plays the edge is refused", Some(&reporting), claim(), Err("forwarded_by_mismatch")),
        ("a quote that is left open", Some(&reporting), Some("URI=\"".to_owned()), Err("forwarded_unparsable")),
        ("a chain that is left open", Some(&forger), Some("Chain=\"".to_owned()), Err("forwarded_unparsable")),
        ("a name that begins another element", Some(&sly), harmless(), Err("forwarded_certificate_missing")),
        ("a name that is a whole element", Some(&forger), harmless(), Err("forwarded_names_mismatch")),
    ];
    ask_all(report, &gate, &Edge::new("APPEND_FORWARD", "TEXT"), &appending).await?;

    report.step("an edge that writes JSON, where no name forges anything");
    let json: Vec<Case<'_>> = vec![
        ("checkout is known", Some(&checkout), None, Ok(CHECKOUT)),
        ("reporting is known", Some(&reporting), None, Ok(REPORTING)),
        ("a name with a comma is one name, and nobody's", Some(&sly), None, Err("no_rule_matched")),
        ("a name that is a whole element is too", Some(&forger), None, Err("no_rule_matched")),
    ];
    ask_all(report, &gate, &Edge::new("SANITIZE_SET", "JSON"), &json).await?;

    report.step("an edge that forwards no certificate");
    let bare = Edge { details: json!({ "uri": true }), ..Edge::new("SANITIZE_SET", "TEXT") };
    let unproven: Vec<Case<'_>> = vec![
        ("a name alone proves nothing", Some(&checkout), None, Err("forwarded_certificate_missing")),
        ("nor does one that brings a certificate", Some(&forger), None, Err("forwarded_by_mismatch")),
    ];
    ask_all(report, &gate, &bare, &unproven).await?;

    report.step("the same edge under a name that nobody trusts to forward");
    let stranger = Edge { name: OTHER_EDGE, ..Edge::new("SANITIZE_SET", "TEXT") };
    let untrusted: Vec<Case<'_>> = vec![
        ("checkout is refused behind it", Some(&checkout), None, Err("forwarder_untrusted")),
        ("and it speaks for itself only", None, None, Err("no_rule_matched")),
    ];
    ask_all(report, &gate, &stranger, &untrusted).await
}

/// Starts an edge and asks every case through it.
async fn ask_all(report: &mut Report, gate: &Gate, edge: &Edge, cases: &[Case<'_>]) -> Result<(), StoryError> {
    let edge = edge.start(gate).await?;
    for (claim, who, header, expected) in cases {
        let client = gate.client_at(edge.address, *who, Http1)?;
        let mut text = format!("GET /orders/1 HTTP/1.1\r\nhost: {HOST_NAME}\r\n");
        if let Some(header) = header {
            text.push_str(&format!("x-forwarded-client-cert: {header}\r\n"));
        }
        text.push_str("\r\n");
        gate.upstream.take_seen();
        let outcome = raw::http1(&client, text.as_bytes()).await;
        let outcome =
            outcome.map_err(|source| StoryError::Request { doing: format!("no outcome: {claim}"), source })?;
        let seen = gate.upstream.take_seen();
        let good = match expected {
            Ok(identity) => {
                let one = if let [seen] = seen.as_slice() { Some(seen) } else { None };
                outcome.is_success()
                    && one.is_some_and(|seen| {
                        seen.values("x-portcullis-identity") == [*identity]
                            && seen.values("x-forwarded-client-cert").is_empty()
                    })
            }
            Err(code) => outcome.code() == *code && seen.is_empty(),
        };
        let told = seen.first().map(|seen| seen.values("x-portcullis-identity").join(", ")).unwrap_or_default();
        report.holds(claim, good, format_args!("{outcome}{}{told}", if told.is_empty() { "" } else { ", as " }))?;
    }
    Ok(())
}

/// PEM as Envoy writes it into the header.
fn url_encoded(leaf: &Leaf) -> String {
    let escapes = [('\n', "%0A"), (' ', "%20"), ('+', "%2B"), ('/', "%2F"), ('=', "%3D")];
    escapes.iter().fold(leaf.pem(), |text, (character, escape)| text.replace(*character, escape))
}
