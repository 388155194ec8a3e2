//! What rules may require beside method, path, host and role, as far as the proxy has to say it.

use std::net::IpAddr;

use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Fault;
use portcullis_integration::wasm_host::Vm;
use serde_json::Value;
use serde_json::json;

use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::request_with;

/// A gate where `/x` is allowed under this condition, and `/y` denied under it.
fn requiring(requirement: Value) -> Vm {
    let mut allow = json!({ "id": "allow", "allow": "any", "paths": ["/x"] });
    let mut deny = json!({ "id": "deny", "deny": "any", "paths": ["/y"] });
    for (name, value) in requirement.as_object().unwrap() {
        allow[name] = value.clone();
        deny[name] = value.clone();
    }
    let open = json!({ "id": "open", "allow": "any", "paths": ["/y"] });
    gate_with(&json!({ "version": 1, "rules": [allow, deny, open] }))
}

/// Whether both rules match on this connection.
fn matches(vm: &mut Vm, connection: &Connection) -> bool {
    let allowed = get(vm, connection, "/x").status() == Some(200);
    let denied = get(vm, connection, "/y").status() == Some(403);
    assert_eq!(allowed, denied, "{:?}", vm.log());
    allowed
}

fn from(address: &str) -> Connection {
    Connection::tls().source(address.parse::<IpAddr>().unwrap(), 40_000)
}

#[test]
fn the_peers_address_is_compared_with_networks() {
    let mut vm = requiring(json!({ "sources": ["10.0.0.0/8", "2001:db8::/32"] }));
    let cases = [
        ("10.0.0.7", true),
        ("192.0.2.7", false),
        ("::ffff:10.0.0.7", true),
        ("2001:db8::7", true),
        ("2001:db9::7", false),
    ];
    for (address, want) in cases {
        assert_eq!(matches(&mut vm, &from(address)), want, "{address}");
    }
}

#[test]
fn an_address_in_another_form_is_read_or_unknown() {
    let mut vm = requiring(json!({ "not": { "sources": ["10.0.0.0/8"] } }));
    let address = |text: &str| Connection::tls().fault(Fault::Value("source.address", text.as_bytes().to_vec()));
    let cases = [
        ("[fe80::1%eth0]:443", true),
        ("192.0.2.7:443", true),
        ("10.0.0.7:443", false),
        ("/run/client.sock", false),
        ("@client", false),
        ("192.0.2.7", false),
        ("192.0.2.7:x", false),
        ("[192.0.2.7]:443", false),
        ("fe80::1:443", false),
    ];
    for (text, want) in cases {
        assert_eq!(matches(&mut vm, &address(text)), want, "{text}");
    }
}

#[test]
fn the_handshake_is_asked_for_its_name_and_version() {
    let mut vm = requiring(json!({ "sni": ["*.acme.example"], "tls": { "min_version": "1.3" } }));
    let version =
        |version: &str| Connection::tls().fault(Fault::Value("connection.tls_version", version.as_bytes().to_vec()));
    let cases = [
        ("both", Connection::tls(), true),
        ("another name", Connection::tls().sni("acme.example"), false),
        ("no name", Connection::tls().sni(""), false),
        ("an older version", version("TLSv1.2"), false),
        ("no TLS", Connection::plaintext(), false),
        ("not text", Connection::tls().fault(Fault::Value("connection.requested_server_name", vec![0xff])), false),
    ];
    for (name, connection, want) in cases {
        assert_eq!(matches(&mut vm, &connection), want, "{name}");
    }
}

/// What it is called, the fields, and the status of two requests.
type Case<'a> = (&'a str, &'a [(&'a str, &'a [u8])], [u16; 2]);

#[test]
fn every_header_counts() {
    let mut vm = requiring(json!({ "headers": { "x-environment": "test" } }));
    let cases: [Case<'_>; 5] = [
        ("the value", &[("x-environment", b"test")], [200, 403]),
        ("none", &[], [401, 200]),
        ("a second field", &[("x-environment", b"test"), ("x-environment", b"prod")], [401, 403]),
        ("a second item", &[("x-environment", b"prod, test")], [401, 403]),
        ("an alias", &[("x_environment", b"test")], [401, 403]),
    ];
    for (name, fields, want) in cases {
        let status =
            ["/x", "/y"].map(|path| vm.request(&Connection::tls(), request_with("GET", path, fields)).status());
        assert_eq!(status, want.map(Some), "{name}: {:?}", vm.log());
    }
}

#[test]
fn a_host_that_does_not_say_what_a_policy_asks_lets_nobody_through() {
    let missing = Connection::tls().fault(Fault::Missing("source.address"));
    let mut vm = requiring(json!({ "sources": ["10.0.0.0/8"] }));
    assert_eq!(get(&mut vm, &missing, "/y").status(), Some(503));
    // A policy that does not ask has no need of the answer.
    assert_eq!(get(&mut gate(), &missing, "/healthz").status(), Some(200));
}
