//! Hosts other than the Envoy of today, and what any host may withhold.

use portcullis_integration::certificates::Leaf;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Fault;

use crate::forwarding::url_encoded;
use crate::gate::CHECKOUT;
use crate::gate::answer;
use crate::gate::assert_alive;
use crate::gate::bare;
use crate::gate::gate;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::policy;

const INTERNAL_FAILURE: i32 = 10;

/// A host that knows nothing below `connection.*` about certificates and hands out variables, as nginx does.
fn variables(verify: Option<&str>, certificate: Option<&str>) -> Connection {
    let missing = ["connection.sha256_peer_certificate_digest", "connection.peer_certificate", "connection.mtls"];
    let host = missing.into_iter().fold(Connection::tls(), |host, name| host.fault(Fault::Missing(name)));
    let told = [("ngx.ssl_client_verify", verify), ("ngx.ssl_client_escaped_cert", certificate)];
    told.into_iter().fold(host, |host, (name, value)| match value {
        Some(value) => host.fault(Fault::Value(name, value.as_bytes().to_vec())),
        None => host.fault(Fault::Missing(name)),
    })
}

fn escaped(leaf: &Leaf) -> String {
    url_encoded(&leaf.pem())
}

#[test]
fn the_variables_of_nginx_stand_in_for_the_properties() {
    let checkout = escaped(&leaf().uri(CHECKOUT).issue());
    let late = escaped(&leaf().uri(CHECKOUT).valid(1, 2).issue());
    let mut vm = gate();
    let cases = [
        ("a validated certificate", Some("SUCCESS"), Some(checkout.as_str()), "/orders/1", (200, "")),
        ("the same again", Some("SUCCESS"), Some(&checkout), "/debug", (403, "deny_rule_matched")),
        ("one that expired", Some("SUCCESS"), Some(&late), "/orders/1", (401, "certificate_expired")),
        (
            "one that is not validated",
            Some("FAILED:x"),
            Some(&checkout),
            "/orders/1",
            (401, "certificate_not_validated"),
        ),
        ("another word", Some("success"), Some(&checkout), "/orders/1", (401, "certificate_not_validated")),
        ("none", Some("NONE"), None, "/orders/1", (401, "no_certificate")),
        ("none where everybody may", Some("NONE"), None, "/healthz", (200, "")),
        ("one that is kept back", Some("SUCCESS"), None, "/healthz", (503, "internal_error")),
        ("no word of any", None, Some(&checkout), "/healthz", (503, "internal_error")),
        ("an empty word", Some(""), Some(&checkout), "/healthz", (503, "internal_error")),
        ("what is no certificate", Some("SUCCESS"), Some("%2d%2d"), "/healthz", (401, "certificate_unreadable")),
    ];
    for (name, verify, certificate, path, (status, code)) in cases {
        let outcome = get(&mut vm, &variables(verify, certificate), path);
        assert_eq!(answer(&outcome), (status, code.to_owned()), "{name}");
        if let (Some(upstream), "/orders/1") = (outcome.upstream(), path) {
            assert_eq!(upstream.single("x-portcullis-identity"), Some(CHECKOUT), "{name}");
        }
    }
    assert_alive(&mut vm);
}

#[test]
fn variables_add_nothing_to_what_envoy_says() {
    let checkout = escaped(&leaf().uri(CHECKOUT).issue());
    let other = Connection::mtls(&leaf().uri("spiffe://acme.example/nobody").issue());
    let mut vm = gate();
    for (name, connection, expected) in [
        ("another certificate", other, (403, "no_rule_matched")),
        ("no certificate", Connection::tls(), (401, "no_certificate")),
    ] {
        let connection = connection
            .fault(Fault::Value("ngx.ssl_client_verify", b"SUCCESS".to_vec()))
            .fault(Fault::Value("ngx.ssl_client_escaped_cert", checkout.clone().into_bytes()));
        assert_eq!(answer(&get(&mut vm, &connection, "/orders/1")), (expected.0, expected.1.to_owned()), "{name}");
    }
    assert_alive(&mut vm);
}

#[test]
fn a_host_that_withholds_what_every_decision_needs_is_refused_at_start() {
    for call in ["proxy_get_property", "proxy_get_current_time_nanoseconds", "proxy_get_buffer_bytes"] {
        let mut vm = bare();
        vm.break_call(call, INTERNAL_FAILURE);
        assert!(!vm.configure(policy().to_string().as_bytes()), "without `{call}`");
        let said = vm.log().iter().any(|line| line.text.contains("configuration refused"));
        // Where the SDK takes the status for impossible, the machine traps: that is a refusal as well.
        assert!(said || vm.failure().is_some(), "without `{call}`: {:?}", vm.log());
    }
}

#[test]
fn a_policy_that_does_not_fit_into_memory_leaves_the_one_before() {
    let mut large = policy();
    let rules = large["rules"].as_array_mut().unwrap();
    rules.extend((0..20_000).map(|index| {
        serde_json::json!({ "id": format!("rule-{index}"), "allow": ["reader"], "paths": [format!("/many/{index}/**")] })
    }));
    let mut vm = gate();
    let size = vm.memory_size();
    vm.limit_memory(size + (1 << 20));
    assert!(!vm.configure(large.to_string().as_bytes()), "{} bytes were enough", vm.memory_size());
    assert!(vm.failure().is_some(), "it ends in a trap, not in half a policy");
    assert_eq!(get(&mut vm, &Connection::tls(), "/healthz").status(), Some(503));
    vm.reload().unwrap();
    assert_alive(&mut vm);
}
