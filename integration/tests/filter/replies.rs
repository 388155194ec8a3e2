//! What a client that is refused gets to read.

use portcullis_integration::wasm_host::Connection;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::gate;
use crate::gate::peer;
use crate::gate::request_with;

#[test]
fn a_refusal_is_a_problem_document() {
    let cases = [
        ("may not", peer(CART), "DELETE", "/orders/1", 403, "Forbidden", "no_rule_matched"),
        ("who are you", Connection::tls(), "GET", "/orders/1", 401, "Unauthorized", "no_certificate"),
        ("without TLS", Connection::plaintext(), "GET", "/orders/1", 401, "Unauthorized", "no_certificate"),
        ("what do you mean", peer(CART), "GET", "/orders//1", 400, "Bad Request", "path_empty_segment"),
    ];
    let mut vm = gate();
    for (name, connection, method, path, status, title, code) in cases {
        let fields: [(&str, &[u8]); 1] = [("x-request-id", b"7d6f1a")];
        let outcome = vm.request(&connection, request_with(method, path, &fields));
        let reply = outcome.reply().unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        assert_eq!(reply.status, status, "{name}");
        assert_eq!(reply.headers.single("content-type"), Some("application/problem+json"), "{name}");
        assert_eq!(reply.headers.single("cache-control"), Some("no-store"), "{name}");
        let problem: Value = serde_json::from_slice(&reply.body).unwrap();
        // Exactly this: nothing about policy, rules, roles or the caller.
        let expected =
            json!({ "type": "about:blank", "title": title, "status": status, "code": code, "request_id": "7d6f1a" });
        assert_eq!(problem, expected, "{name}");
    }
}

#[test]
fn a_client_cannot_write_into_its_refusal() {
    let mut vm = gate();
    let cases: [(&[u8], &str); 4] = [
        (b"\"},{\"code\":\"rule_matched\"", "no_rule_matched"),
        (b"</script><script>", "no_rule_matched"),
        (b"\x1b[2J", "header_malformed"),
        (&[b'a'; 9_000], "no_rule_matched"),
    ];
    for (id, code) in cases {
        let outcome = vm.request(&peer(CART), request_with("DELETE", "/orders/1", &[("x-request-id", id)]));
        let reply = outcome.reply().unwrap();
        let problem: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(problem["code"], code);
        assert!(reply.body.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
        assert!(reply.body.len() < 2_048, "{} bytes", reply.body.len());
    }
}
