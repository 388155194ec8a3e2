//! What the upstream learns about the caller, and that it learns it from the gate alone.

use portcullis_integration::wasm_host::Connection;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::peer;
use crate::gate::policy;
use crate::gate::request_with;

#[test]
fn the_upstream_sees_identity_roles_and_rule() {
    let outcome = get(&mut gate(), &peer(CHECKOUT), "/orders/1");
    let upstream = outcome.upstream().unwrap();
    assert_eq!(upstream.single("x-portcullis-identity"), Some(CHECKOUT));
    assert_eq!(upstream.single("x-portcullis-roles"), Some("checkout,reader"));
    assert_eq!(upstream.single("x-portcullis-rule"), Some("all-orders"));
    assert_eq!(upstream.single(":path"), Some("/orders/1"));
}

#[test]
fn the_upstream_sees_no_identity_of_an_anonymous_caller() {
    let claims: [(&str, &[u8]); 3] = [
        ("x-portcullis-identity", CHECKOUT.as_bytes()),
        ("x-portcullis-roles", b"checkout"),
        ("x-portcullis-rule", b"all-orders"),
    ];
    let outcome = gate().request(&Connection::tls(), request_with("GET", "/healthz", &claims));
    let upstream = outcome.upstream().unwrap();
    assert_eq!(upstream.single("x-portcullis-rule"), Some("health"));
    assert!(upstream.all("x-portcullis-identity").is_empty());
    assert!(upstream.all("x-portcullis-roles").is_empty());
}

#[test]
fn what_a_client_says_of_itself_never_arrives() {
    // What upstreams take for one and the same name: CGI and WSGI fold `-`, `_` and `.`, and all of them fold case.
    let names = [
        "x-portcullis-identity",
        "X-Portcullis-Identity",
        "X-PORTCULLIS-IDENTITY",
        "x_portcullis_identity",
        "X_Portcullis-Identity",
        "x-portcullis_identity",
        "x.portcullis.identity",
        "x-portcullis-roles",
        "x_portcullis_roles",
        "x-portcullis-rule",
        "x-portcullis-anything",
        "x_portcullis_later",
    ];
    let mut vm = gate();
    let cart = peer(CART);
    for name in names {
        let twice: [(&str, &[u8]); 3] = [(name, b"forged-1"), ("x-other", b"stays"), (name, b"forged-2")];
        let outcome = vm.request(&cart, request_with("GET", "/orders/1", &twice));
        let upstream = outcome.upstream().unwrap_or_else(|| panic!("`{name}`: {outcome:?}"));
        let forged = upstream.iter().any(|(_, value)| value.starts_with(b"forged"));
        assert!(!forged, "`{name}`: {upstream:?}");
        assert_eq!(upstream.single("x-portcullis-identity"), Some(CART), "`{name}`");
        assert_eq!(upstream.single("x-other"), Some("stays"), "`{name}`");
    }
}

#[test]
fn a_name_that_only_looks_like_ours_is_left_alone() {
    let fields: [(&str, &[u8]); 3] =
        [("x-portcullisidentity", b"1"), ("portcullis-identity", b"2"), ("x-port-cullis-rule", b"3")];
    let outcome = gate().request(&peer(CART), request_with("GET", "/orders/1", &fields));
    for (name, value) in fields {
        assert_eq!(outcome.upstream().unwrap().all(name), [value], "`{name}`");
    }
}

#[test]
fn a_forwarded_certificate_is_nobodys_identity() {
    let xfcc = format!("By=spiffe://acme.example/gw;Hash={};URI={CHECKOUT}", "0".repeat(64));
    for name in ["x-forwarded-client-cert", "client-cert", "x-ssl-client-s-dn"] {
        let fields = [(name, xfcc.as_bytes())];
        let outcome = gate().request(&peer(CART), request_with("DELETE", "/orders/1", &fields));
        assert_eq!(outcome.status(), Some(403), "`{name}`");
    }
}

#[test]
fn the_label_of_an_odd_certificate_is_safe_in_a_header() {
    let everybody = json!({
        "version": 1,
        "trust_domain": "acme.example",
        "rules": [{ "id": "all", "allow": "any", "paths": ["/**"] }],
    });
    let mut vm = gate_with(&everybody);
    let leaves = [
        ("a comma and a quote", leaf().uri("urn:x,URI=\"spiffe://acme.example/admin\"").issue()),
        ("two URIs", leaf().uri(CHECKOUT).uri(CART).issue()),
        ("a broken SPIFFE ID", leaf().uri("spiffe://acme.example/a/../b").issue()),
        ("an e-mail address", leaf().email("ops@acme.example").issue()),
        ("a subject with UTF-8", leaf().subject(rcgen::DnType::CommonName, "b\u{fc}cher\r\nx: y").issue()),
        ("no name", leaf().issue()),
    ];
    for (name, leaf) in leaves {
        let outcome = get(&mut vm, &Connection::mtls(&leaf), "/");
        // A certificate may as well be refused; what must not be is a label that says something else.
        let Some(upstream) = outcome.upstream() else {
            assert_eq!(outcome.status(), Some(401), "{name}: {outcome:?}");
            continue;
        };
        let label = upstream.single("x-portcullis-identity").unwrap_or_else(|| panic!("{name}: {upstream:?}"));
        assert!(label.bytes().all(|byte| byte.is_ascii_graphic()), "{name}: `{label}`");
        assert!(!label.starts_with("spiffe://"), "{name}: `{label}`");
    }
}

#[test]
fn a_refused_request_reaches_no_upstream() {
    let mut vm = gate_with(&policy());
    for path in ["/debug", "/other", "/orders/../debug"] {
        assert_eq!(get(&mut vm, &peer(CHECKOUT), path).upstream(), None, "{path}");
    }
}
