//! Who holds a connection whose certificate is about to end is told, if the policy says so.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Outcome;
use portcullis_integration::wasm_host::Vm;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::policy;
use crate::gate::request_with;

const EXPIRES: &str = "x-portcullis-certificate-expires";
const WARNED: &str = "portcullis.drain.warned";

fn draining() -> Vm {
    let mut policy = policy();
    policy["drain"] = json!({ "before": "1m" });
    gate_with(&policy)
}

/// A connection whose certificate ends in so many seconds.
fn ending(seconds: u64) -> Connection {
    let now = u64::try_from(NOW.0).unwrap();
    Connection::mtls(&leaf().uri(CHECKOUT).valid(now - 60, now + seconds).issue())
}

fn told(outcome: &Outcome) -> Option<String> {
    outcome.upstream().unwrap().single(EXPIRES).map(str::to_owned)
}

#[test]
fn the_end_is_told_within_the_time_that_the_policy_names() {
    let mut vm = draining();
    let cases = [
        ("far away", 3_600, None),
        ("a second too far", 61, None),
        ("near", 60, Some("Sat, 22 Nov 2025 10:01:00 GMT")),
        ("nearer", 5, Some("Sat, 22 Nov 2025 10:00:05 GMT")),
    ];
    for (name, seconds, expected) in cases {
        let outcome = get(&mut vm, &ending(seconds), "/orders/1");
        assert_eq!(told(&outcome).as_deref(), expected, "{name}");
    }
    assert_eq!(vm.counter(WARNED), Some(2));
    // A refusal is no reason to come back.
    assert_eq!(get(&mut vm, &ending(5), "/debug").status(), Some(403));
    assert_eq!(vm.counter(WARNED), Some(2));
}

#[test]
fn nobody_is_told_without_a_word_of_the_policy() {
    let mut vm = gate();
    assert_eq!(told(&get(&mut vm, &ending(5), "/orders/1")), None);
    assert_eq!(vm.counter(WARNED), Some(0));
}

#[test]
fn what_a_client_says_of_its_end_never_arrives() {
    let fields: [(&str, &[u8]); 2] = [(EXPIRES, b"forged"), ("X_Portcullis_Certificate_Expires", b"forged")];
    for (mut vm, seconds, expected) in
        [(gate(), 5, None), (draining(), 3_600, None), (draining(), 5, Some("Sat, 22 Nov 2025 10:00:05 GMT"))]
    {
        let outcome = vm.request(&ending(seconds), request_with("GET", "/orders/1", &fields));
        assert_eq!(told(&outcome).as_deref(), expected);
        assert!(outcome.upstream().unwrap().iter().all(|(_, value)| value != b"forged"));
    }
}

#[test]
fn behind_a_forwarder_it_is_about_the_forwarders_connection() {
    let now = u64::try_from(NOW.0).unwrap();
    let mut policy = policy();
    policy["drain"] = json!({ "before": "1m" });
    policy["forwarders"] = json!([{ "spiffe": "spiffe://acme.example/edge" }]);
    let mut vm = gate_with(&policy);
    let client = leaf().uri(CART).valid(now - 60, now + 5).issue();
    let header = format!(":{}:", BASE64_STANDARD.encode(client.der()));
    for (seconds, expected) in [(3_600, None), (5, Some("Sat, 22 Nov 2025 10:00:05 GMT"))] {
        let edge = leaf().uri("spiffe://acme.example/edge").valid(now - 60, now + seconds).issue();
        let fields: [(&str, &[u8]); 1] = [("client-cert", header.as_bytes())];
        let outcome = vm.request(&Connection::mtls(&edge), request_with("GET", "/orders/1", &fields));
        assert_eq!(outcome.upstream().unwrap().single("x-portcullis-identity"), Some(CART));
        assert_eq!(told(&outcome).as_deref(), expected);
    }
}
