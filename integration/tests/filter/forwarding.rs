//! Clients behind another proxy: who is believed about them, in which forms, and what goes on to the upstream.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use portcullis_integration::certificates::Authority;
use portcullis_integration::certificates::Leaf;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Fault;
use portcullis_integration::wasm_host::Outcome;
use portcullis_integration::wasm_host::Vm;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::answer;
use crate::gate::gate_with;
use crate::gate::leaf;
use crate::gate::policy;
use crate::gate::request_with;

const EDGE: &str = "spiffe://acme.example/edge";
const XFCC: &str = "x-forwarded-client-cert";

/// The gate's policy with the edge as a forwarder; `more` is added to it.
fn forwarding(more: Value) -> Value {
    let mut policy = policy();
    let mut forwarder = json!({ "spiffe": EDGE });
    forwarder.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy["forwarders"] = json!([forwarder]);
    policy["records"] = json!({ "allow_every": 1 });
    policy
}

/// A name, who asks, the fields, and the status with its code.
type Case<'a, C, F> = (&'a str, C, F, (u16, &'a str));

fn edge() -> Connection {
    Connection::mtls(&leaf().uri(EDGE).issue())
}

/// PEM as proxies hand it out.
pub(crate) fn url_encoded(pem: &str) -> String {
    pem.replace('%', "%25")
        .replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D")
}

fn cert(leaf: &Leaf) -> String {
    format!("Cert=\"{}\"", url_encoded(&leaf.pem()))
}

/// What Envoy writes of a client with this one URI name.
fn element(leaf: &Leaf, uri: &str) -> String {
    format!("By={EDGE};Hash={};{};URI={uri}", leaf.sha256_hex(), cert(leaf))
}

fn ask(vm: &mut Vm, connection: &Connection, fields: &[(&str, &str)]) -> Outcome {
    let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    vm.request(connection, request_with("GET", "/orders/1", &fields))
}

fn verdict(outcome: &Outcome) -> (u16, String) {
    if outcome.upstream().is_some() { (200, String::new()) } else { answer(outcome) }
}

/// Every item of class 11 of the bypasses that this gate is tested for.
#[test]
fn only_what_a_forwarder_proves_is_believed() {
    let mut vm = gate_with(&forwarding(json!({})));
    let (checkout, cart) = (leaf().uri(CHECKOUT).issue(), leaf().uri(CART).issue());
    let forger = leaf().uri(format!("spiffe://acme.example/a,{}", element(&checkout, CHECKOUT))).issue();
    let sly = leaf().uri("spiffe://acme.example/a,URI=spiffe://acme.example/admin").issue();
    let good = element(&checkout, CHECKOUT);
    let json = |uri: &str, certificate: &Leaf| {
        json!([{ "by": [EDGE], "hash": certificate.sha256_hex(), "cert": certificate.pem(), "uri": [uri] }]).to_string()
    };
    let forged = |leaf: &Leaf, uri: &str| element(leaf, uri);
    let pair = || format!("{},{}", element(&cart, CART), good);
    let edge = edge();
    let stranger = Connection::mtls(&cart);
    let nobody = Connection::tls();
    let ok = (200, "");
    let cases: Vec<(&str, &Connection, String, (u16, &str))> = vec![
        ("text", &edge, good.clone(), ok),
        ("JSON form", &edge, json(CHECKOUT, &checkout), ok),
        ("lower-case keys", &edge, good.replace("By=", "by=").replace("Hash=", "hash=").replace("URI=", "uri="), ok),
        ("upper-case hash", &edge, good.replace(&checkout.sha256_hex(), &checkout.sha256_hex().to_uppercase()), ok),
        ("forged left elements: a name", &edge, format!("URI=spiffe://acme.example/admin,{good}"), ok),
        ("forged left elements: another client", &edge, format!("{};{},{good}", cert(&cart), "By=spiffe://x/y"), ok),
        ("from an untrusted peer", &stranger, good.clone(), (403, "forwarder_untrusted")),
        ("from a peer without a certificate", &nobody, good.clone(), (403, "forwarder_untrusted")),
        ("empty", &edge, String::new(), (400, "forwarded_unparsable")),
        ("quote error: open", &edge, good.replace("\";URI", ";URI"), (400, "forwarded_unparsable")),
        ("quote error: inside", &edge, good.replace("URI=", "URI=a\"b\""), (400, "forwarded_unparsable")),
        ("escape error", &edge, good.replace("%0A", "%0"), (400, "forwarded_unparsable")),
        ("URL decoded once too often", &edge, good.replace("%0A", "%250A"), (401, "certificate_unreadable")),
        ("JSON that is cut off", &edge, json(CHECKOUT, &checkout).replace("}]", ""), (400, "forwarded_unparsable")),
        (
            "duplicate keys in one element",
            &edge,
            format!("{good};Hash={}", checkout.sha256_hex()),
            (400, "forwarded_unparsable"),
        ),
        ("unknown key", &edge, format!("{good};Role=admin"), (400, "forwarded_unparsable")),
        ("the forwarder twice", &edge, pair(), (401, "forwarded_by_mismatch")),
        ("no certificate", &edge, format!("By={EDGE};URI={CHECKOUT}"), (401, "forwarded_certificate_missing")),
        (
            "Hash of another certificate",
            &edge,
            good.replace(&checkout.sha256_hex(), &cart.sha256_hex()),
            (401, "forwarded_hash_mismatch"),
        ),
        ("By another proxy", &edge, good.replace(EDGE, "spiffe://acme.example/other"), (401, "forwarded_by_mismatch")),
        (
            "Chain in another order",
            &edge,
            format!("{good};Chain=\"{}{}\"", url_encoded(&cart.pem()), url_encoded(&checkout.pem())),
            (401, "forwarded_hash_mismatch"),
        ),
        ("URI of another", &edge, element(&cart, CHECKOUT), (401, "forwarded_names_mismatch")),
        ("JSON with the URI of another", &edge, json(CHECKOUT, &cart), (401, "forwarded_names_mismatch")),
        (
            "a SAN that forges a hop",
            &edge,
            forged(&sly, "spiffe://acme.example/a,URI=spiffe://acme.example/admin"),
            (401, "forwarded_certificate_missing"),
        ),
        (
            "a SAN that is a whole element",
            &edge,
            forged(&forger, &format!("spiffe://acme.example/a,{good}")),
            (401, "forwarded_names_mismatch"),
        ),
    ];
    for (name, connection, header, (status, code)) in cases {
        let outcome = ask(&mut vm, connection, &[(XFCC, &header)]);
        assert_eq!(verdict(&outcome), (status, code.to_owned()), "{name}");
        if let Some(upstream) = outcome.upstream() {
            assert_eq!(upstream.single("x-portcullis-identity"), Some(CHECKOUT), "{name}");
        }
    }
    let twice = ask(&mut vm, &edge, &[(XFCC, &good), (XFCC, &good)]);
    assert_eq!(verdict(&twice), (400, "header_duplicated".to_owned()), "twice");
    assert_eq!(vm.failure(), None);
}

#[test]
fn a_forwarder_alone_is_nobody() {
    let mut policy = forwarding(json!({}));
    policy["roles"]["edge"] = json!([{ "spiffe": EDGE }]);
    policy["rules"].as_array_mut().unwrap().push(json!({ "id": "edge", "allow": ["edge"], "paths": ["/**"] }));
    let mut vm = gate_with(&policy);
    assert_eq!(verdict(&ask(&mut vm, &edge(), &[])), (401, "no_certificate".to_owned()));
    let open = vm.request(&edge(), request_with("GET", "/healthz", &[]));
    let upstream = open.upstream().unwrap();
    assert!(upstream.all("x-portcullis-identity").is_empty() && upstream.all("x-portcullis-roles").is_empty());
}

#[test]
fn the_state_of_the_client_counts_and_that_of_the_forwarder_too() {
    let now = u64::try_from(NOW.0).unwrap();
    let mut vm = gate_with(&forwarding(json!({})));
    let good = leaf().uri(CHECKOUT).issue();
    let cases = [
        ("expired", leaf().uri(CHECKOUT).valid(now - 100, now - 1).issue(), "certificate_expired"),
        ("not yet valid", leaf().uri(CHECKOUT).valid(now + 1, now + 100).issue(), "certificate_not_yet_valid"),
    ];
    for (name, client, code) in cases {
        let outcome = ask(&mut vm, &edge(), &[(XFCC, &element(&client, CHECKOUT))]);
        assert_eq!(verdict(&outcome), (401, code.to_owned()), "{name}");
        let forwarder = Connection::mtls(&leaf().uri(EDGE).valid(now - 100, now - 1).issue());
        let outcome = ask(&mut vm, &forwarder, &[(XFCC, &element(&good, CHECKOUT))]);
        assert_eq!(verdict(&outcome), (401, "certificate_expired".to_owned()), "of the forwarder");
    }
    let mut revoking = forwarding(json!({}));
    revoking["revoked"] = json!({ "sha256": [good.sha256_hex()] });
    let outcome = ask(&mut gate_with(&revoking), &edge(), &[(XFCC, &element(&good, CHECKOUT))]);
    assert_eq!(verdict(&outcome), (401, "certificate_revoked".to_owned()));
}

#[test]
fn the_hop_that_the_policy_names_counts() {
    let inner = "spiffe://acme.example/inner";
    let mut vm = gate_with(&forwarding(json!({ "hops": 2, "by": inner })));
    let (checkout, proxy, cart) = (leaf().uri(CHECKOUT).issue(), leaf().uri(inner).issue(), leaf().uri(CART).issue());
    let first = |client: &Leaf, uri: &str| format!("By={inner};{};URI={uri}", cert(client));
    let cases = [
        ("two hops", format!("{},{}", first(&checkout, CHECKOUT), element(&proxy, inner)), (200, "")),
        ("one hop too few", element(&checkout, CHECKOUT), (401, "forwarded_hop_missing")),
        (
            "a client that plays the first proxy",
            format!("{},{}", first(&checkout, CHECKOUT), element(&cart, CART)),
            (401, "forwarded_by_mismatch"),
        ),
    ];
    for (name, header, (status, code)) in cases {
        assert_eq!(verdict(&ask(&mut vm, &edge(), &[(XFCC, &header)])), (status, code.to_owned()), "{name}");
    }
}

#[test]
fn client_cert_is_believed_of_a_forwarder_only() {
    let mut vm = gate_with(&forwarding(json!({})));
    let (checkout, cart) = (leaf().uri(CHECKOUT).issue(), leaf().uri(CART).issue());
    let bytes = |leaf: &Leaf| format!(":{}:", BASE64_STANDARD.encode(leaf.der()));
    let root = format!(":{}:", BASE64_STANDARD.encode(Authority::new("root").der()));
    let good = bytes(&checkout);
    let (edge, stranger) = (edge(), Connection::mtls(&cart));
    let xfcc = element(&checkout, CHECKOUT);
    let cases: Vec<Case<'_, &Connection, Vec<(&str, &str)>>> = vec![
        ("alone", &edge, vec![("client-cert", &good)], (200, "")),
        ("with its chain", &edge, vec![("client-cert", &good), ("client-cert-chain", &root)], (200, "")),
        ("from a stranger", &stranger, vec![("client-cert", &good)], (403, "forwarder_untrusted")),
        ("chain from a stranger", &stranger, vec![("client-cert-chain", &root)], (403, "forwarder_untrusted")),
        ("twice", &edge, vec![("client-cert", &good), ("client-cert", &good)], (400, "header_duplicated")),
        ("beside XFCC", &edge, vec![("client-cert", &good), (XFCC, &xfcc)], (400, "forwarded_ambiguous")),
        ("no byte sequence", &edge, vec![("client-cert", &good[1..])], (400, "forwarded_unparsable")),
        ("a chain alone", &edge, vec![("client-cert-chain", &root)], (400, "forwarded_unparsable")),
        ("an alias", &edge, vec![("client_cert", &good)], (400, "forwarded_alias")),
        ("an alias of XFCC", &edge, vec![("X.Forwarded_Client-Cert", &xfcc)], (400, "forwarded_alias")),
        ("an alias beside it", &edge, vec![("client-cert", &good), ("client_cert", &good)], (400, "forwarded_alias")),
    ];
    for (name, connection, fields, (status, code)) in cases {
        let outcome = ask(&mut vm, connection, &fields);
        assert_eq!(verdict(&outcome), (status, code.to_owned()), "{name}");
        if let Some(upstream) = outcome.upstream() {
            assert_eq!(upstream.single("x-portcullis-identity"), Some(CHECKOUT), "{name}");
        }
    }
}

#[test]
fn what_is_forwarded_ends_here_unless_the_policy_keeps_it() {
    let checkout = leaf().uri(CHECKOUT).issue();
    let header = format!("URI=spiffe://acme.example/admin,{}", element(&checkout, CHECKOUT));
    let outcome = ask(&mut gate_with(&forwarding(json!({}))), &edge(), &[(XFCC, &header)]);
    assert!(outcome.upstream().unwrap().all(XFCC).is_empty(), "{outcome:?}");
    let outcome = ask(&mut gate_with(&forwarding(json!({ "keep": true }))), &edge(), &[(XFCC, &header)]);
    assert_eq!(outcome.upstream().unwrap().single(XFCC), Some(header.as_str()));
    let certificate = format!(":{}:", BASE64_STANDARD.encode(checkout.der()));
    let fields = [("client-cert", certificate.as_str()), ("client-cert-chain", ":AAAA:")];
    let outcome = ask(&mut gate_with(&forwarding(json!({}))), &edge(), &fields);
    let upstream = outcome.upstream().unwrap();
    assert!(upstream.all("client-cert").is_empty() && upstream.all("client-cert-chain").is_empty(), "{upstream:?}");
}

#[test]
fn the_record_names_the_client_and_the_forwarder() {
    let mut vm = gate_with(&forwarding(json!({})));
    let checkout = leaf().uri(CHECKOUT).issue();
    vm.take_log();
    ask(&mut vm, &edge(), &[(XFCC, &element(&checkout, CHECKOUT))]);
    ask(&mut vm, &edge(), &[(XFCC, "x")]);
    let records: Vec<Value> = vm.log().iter().filter_map(|line| serde_json::from_str(&line.text).ok()).collect();
    let [allowed, refused] = records.as_slice() else { panic!("{:?}", vm.log()) };
    assert_eq!((&allowed["identity"], &allowed["forwarder"]), (&json!(CHECKOUT), &json!(EDGE)));
    assert_eq!((&refused["identity"], &refused["forwarder"]), (&Value::Null, &json!(EDGE)));
    assert_eq!(refused["reason"], "forwarded_unparsable");
}

/// On hosts that hand out no certificate the proxy's own header has it.
#[test]
fn what_the_proxy_itself_wrote_stands_in_for_the_property() {
    let mut policy = policy();
    policy["own_xfcc"] = json!(true);
    let mut vm = gate_with(&policy);
    let (checkout, cart) = (leaf().uri(CHECKOUT).issue(), leaf().uri(CART).issue());
    // Of one that was seen the digest is enough.
    let unseen = leaf().uri(CHECKOUT).issue();
    let own = |client: &Leaf, uri: &str| {
        format!("By=spiffe://acme.example/gateway;Hash={};{};URI={uri}", client.sha256_hex(), cert(client))
    };
    let older = |connection: Connection| connection.fault(Fault::Missing("connection.peer_certificate"));
    let other = |connection: Connection| {
        let connection = older(connection).fault(Fault::Missing("connection.sha256_peer_certificate_digest"));
        connection.fault(Fault::Missing("connection.mtls"))
    };
    let good = own(&checkout, CHECKOUT);
    let two = format!("{},{good}", own(&cart, CART));
    let forged = leaf().uri(format!("a:b,{good}")).issue();
    let forged_header = own(&forged, &format!("a:b,{good}"));
    let cases: Vec<Case<'_, Connection, Option<&str>>> = vec![
        ("an older Envoy", older(Connection::mtls(&checkout)), Some(&good), (200, "")),
        ("another host", other(Connection::mtls(&checkout)), Some(&good), (200, "")),
        ("a host with the property", Connection::mtls(&checkout), Some(&good), (200, "")),
        ("nobody on another host", other(Connection::tls()), None, (401, "no_certificate")),
        ("no header on an older Envoy", older(Connection::mtls(&unseen)), None, (503, "internal_error")),
        ("a header of another peer", older(Connection::mtls(&cart)), Some(&good), (503, "internal_error")),
        ("a property of another peer", Connection::mtls(&cart), Some(&good), (401, "forwarded_hash_mismatch")),
        (
            "an element that the client sent",
            other(Connection::mtls(&checkout)),
            Some(&two),
            (401, "forwarded_by_mismatch"),
        ),
        ("a SAN that forges", other(Connection::mtls(&forged)), Some(&forged_header), (401, "forwarded_by_mismatch")),
        ("a header that is none", other(Connection::mtls(&checkout)), Some("x"), (401, "certificate_unreadable")),
    ];
    for (name, connection, header, (status, code)) in cases {
        let fields: Vec<(&str, &str)> = header.iter().map(|header| (XFCC, *header)).collect();
        let outcome = ask(&mut vm, &connection, &fields);
        assert_eq!(verdict(&outcome), (status, code.to_owned()), "{name}");
        if let Some(upstream) = outcome.upstream() {
            assert_eq!(upstream.single("x-portcullis-identity"), Some(CHECKOUT), "{name}");
        }
    }
}
