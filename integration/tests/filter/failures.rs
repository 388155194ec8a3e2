//! A proxy that does not answer, or answers wrongly: the gate fails closed, and for that request alone where it can.

use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Fault;
use portcullis_integration::wasm_host::Outcome;

use crate::gate::CHECKOUT;
use crate::gate::answer;
use crate::gate::assert_alive;
use crate::gate::gate;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::peer;

const INTERNAL_FAILURE: i32 = 10;
const BAD_ARGUMENT: i32 = 2;

fn checkout() -> Connection {
    peer(CHECKOUT)
}

fn internal_error() -> (u16, String) {
    (503, "internal_error".to_owned())
}

#[test]
fn a_certificate_that_the_proxy_keeps_to_itself_is_not_an_absent_one() {
    const DIGEST: &str = "connection.sha256_peer_certificate_digest";
    const CERTIFICATE: &str = "connection.peer_certificate";
    let cases = [
        ("no digest", vec![Fault::Missing(DIGEST)]),
        ("no certificate", vec![Fault::Missing(CERTIFICATE)]),
        ("neither", vec![Fault::Missing(DIGEST), Fault::Missing(CERTIFICATE)]),
        (
            "no digest, and no word whether there is one",
            vec![Fault::Missing(DIGEST), Fault::Missing("connection.mtls")],
        ),
        ("an empty digest", vec![Fault::Value(DIGEST, Vec::new())]),
        ("an empty certificate", vec![Fault::Value(CERTIFICATE, Vec::new())]),
        ("a digest of another kind", vec![Fault::Value(DIGEST, b"3q2+7w==".to_vec())]),
        ("a digest that is too long", vec![Fault::Value(DIGEST, vec![b'0'; 66])]),
        ("a digest that is not text", vec![Fault::Value(DIGEST, vec![0xff; 64])]),
        ("an error instead of a digest", vec![Fault::Status(DIGEST, INTERNAL_FAILURE)]),
        ("an error instead of a certificate", vec![Fault::Status(CERTIFICATE, INTERNAL_FAILURE)]),
        (
            "an error instead of the last hint",
            vec![Fault::Missing(DIGEST), Fault::Status("connection.mtls", INTERNAL_FAILURE)],
        ),
    ];
    for (name, faults) in cases {
        let mut vm = gate();
        let connection = faults.into_iter().fold(checkout(), Connection::fault);
        // Also where everybody may: who hides a certificate might hide one that is denied.
        for path in ["/orders/1", "/healthz"] {
            assert_eq!(answer(&get(&mut vm, &connection, path)), internal_error(), "{name}, {path}");
        }
        assert_eq!(vm.counter("portcullis.denied.internal_error"), Some(2), "{name}");
        assert_alive(&mut vm);
    }
}

#[test]
fn a_certificate_in_another_encoding_is_unreadable() {
    const CERTIFICATE: &str = "connection.peer_certificate";
    let leaf = leaf().uri(CHECKOUT).issue();
    let plain = leaf.pem().into_bytes();
    let twice = [plain.as_slice(), plain.as_slice()].concat();
    for (name, text) in [("DER", leaf.der().to_vec()), ("two of them", twice), ("half an escape", b"%2".to_vec())] {
        let mut vm = gate();
        let connection = Connection::mtls(&leaf).fault(Fault::Value(CERTIFICATE, text));
        let outcome = get(&mut vm, &connection, "/healthz");
        assert_eq!(answer(&outcome), (401, "certificate_unreadable".to_owned()), "{name}");
        assert_alive(&mut vm);
    }
}

#[test]
fn a_host_call_that_fails_refuses_the_request() {
    let cases = ["proxy_get_header_map_pairs", "proxy_get_property", "proxy_get_current_time_nanoseconds"];
    for call in cases {
        for status in [INTERNAL_FAILURE, BAD_ARGUMENT] {
            let mut vm = gate();
            vm.break_call(call, status);
            let outcome = get(&mut vm, &checkout(), "/healthz");
            // Where the SDK takes the status for impossible, it traps: that too is closed, and ends with a reload.
            assert_eq!(outcome.status(), Some(503), "`{call}` answers {status}");
            vm.reload().unwrap();
            assert_alive(&mut vm);
        }
    }
}

#[test]
fn a_request_that_cannot_be_marked_is_not_let_through() {
    for call in ["proxy_replace_header_map_value", "proxy_remove_header_map_value"] {
        let mut vm = gate();
        vm.break_call(call, INTERNAL_FAILURE);
        let fields: [(&str, &[u8]); 1] = [("x-portcullis-identity", b"forged")];
        let outcome = vm.request(&checkout(), crate::gate::request_with("GET", "/orders/1", &fields));
        assert_eq!(outcome.upstream(), None, "`{call}`");
    }
}

#[test]
fn a_refusal_that_cannot_be_sent_is_no_permission() {
    for status in [INTERNAL_FAILURE, BAD_ARGUMENT] {
        let mut vm = gate();
        vm.break_call("proxy_send_local_response", status);
        let outcome = get(&mut vm, &checkout(), "/debug");
        assert!(!matches!(outcome, Outcome::Forwarded(_)), "{outcome:?}");
    }
}

#[test]
fn what_is_only_counted_or_logged_may_fail() {
    for call in ["proxy_increment_metric", "proxy_record_metric"] {
        let mut vm = gate();
        vm.break_call(call, BAD_ARGUMENT);
        assert_eq!(get(&mut vm, &checkout(), "/orders/1").status(), Some(200), "`{call}`");
        assert_eq!(get(&mut vm, &checkout(), "/debug").status(), Some(403), "`{call}`");
    }
}

#[test]
fn after_a_reload_the_policy_in_force_is_in_force() {
    let mut vm = gate();
    vm.break_call("proxy_get_header_map_pairs", BAD_ARGUMENT);
    assert_eq!(get(&mut vm, &checkout(), "/orders/1").status(), Some(503));
    vm.reload().unwrap();
    assert_eq!(get(&mut vm, &checkout(), "/debug").status(), Some(403));
    assert_alive(&mut vm);
}
