//! Two filters in one VM, as the filters of two listeners that have `vm_id` and code in common.

use portcullis_integration::wasm_host::Neighbour;
use portcullis_integration::wasm_host::Vm;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::answer;
use crate::gate::assert_alive;
use crate::gate::gate;
use crate::gate::get;
use crate::gate::peer;
use crate::gate::request;

/// Under the same names of roles and rules other people may do other things: `cart` writes, `checkout` does not.
fn other_policy() -> Value {
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": { "checkout": [{ "spiffe": CART }] },
        "rules": [
            { "id": "all-orders", "allow": ["checkout"], "paths": ["/orders/**"] },
            { "id": "health", "deny": "any", "paths": ["/healthz"] },
        ],
    })
}

fn two_gates() -> (Vm, Neighbour) {
    let mut vm = gate();
    let neighbour = vm.add_neighbour(other_policy().to_string().as_bytes()).unwrap();
    (vm, neighbour)
}

#[test]
fn each_decides_by_its_own_policy() {
    let (mut vm, neighbour) = two_gates();
    let (checkout, cart) = (peer(CHECKOUT), peer(CART));
    // In turns, so that what one learned of a certificate would show with the other.
    for _ in 0..3 {
        assert_eq!(vm.request(&checkout, request("POST", "/orders/1")).status(), Some(200));
        assert_eq!(vm.request_of(neighbour, &checkout, request("POST", "/orders/1")).status(), Some(403));
        assert_eq!(vm.request(&cart, request("POST", "/orders/1")).status(), Some(403));
        let outcome = vm.request_of(neighbour, &cart, request("POST", "/orders/1"));
        assert_eq!(outcome.upstream().and_then(|upstream| upstream.single("x-portcullis-roles")), Some("checkout"));
        assert_eq!(get(&mut vm, &cart, "/healthz").status(), Some(200));
        let refused = vm.request_of(neighbour, &cart, request("GET", "/healthz"));
        assert_eq!(answer(&refused), (403, "deny_rule_matched".to_owned()));
    }
}

#[test]
fn an_update_of_one_is_none_of_the_other() {
    let (mut vm, neighbour) = two_gates();
    let mut closed = other_policy();
    closed["rules"] = json!([{ "id": "nobody", "deny": "any", "paths": ["/**"] }]);
    assert!(vm.configure(closed.to_string().as_bytes()));
    assert_eq!(get(&mut vm, &peer(CART), "/orders/1").status(), Some(403));
    assert_eq!(vm.request_of(neighbour, &peer(CART), request("GET", "/orders/1")).status(), Some(200));
    // Nor is a refused one.
    assert!(!vm.configure(b"{"));
    assert_eq!(vm.request_of(neighbour, &peer(CART), request("GET", "/orders/1")).status(), Some(200));
    assert_eq!(vm.add_neighbour(b"{"), None);
    assert_eq!(vm.request_of(neighbour, &peer(CART), request("GET", "/orders/1")).status(), Some(200));
}

#[test]
fn a_trap_closes_both_and_a_reload_opens_both() {
    const BAD_ARGUMENT: i32 = 2;
    let (mut vm, neighbour) = two_gates();
    vm.break_call("proxy_get_header_map_pairs", BAD_ARGUMENT);
    assert_eq!(get(&mut vm, &peer(CHECKOUT), "/orders/1").status(), Some(503));
    assert!(vm.failure().is_some());
    assert_eq!(vm.request_of(neighbour, &peer(CART), request("GET", "/orders/1")).status(), Some(503));
    vm.reload().unwrap();
    assert_eq!(vm.request_of(neighbour, &peer(CART), request("GET", "/orders/1")).status(), Some(200));
    assert_eq!(vm.request_of(neighbour, &peer(CHECKOUT), request("GET", "/orders/1")).status(), Some(403));
    assert_alive(&mut vm);
}
