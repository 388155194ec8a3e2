//! How policies replace each other.

use portcullis_integration::wasm_host::LogLevel;
use portcullis_integration::wasm_host::Vm;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::bare;
use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::peer;
use crate::gate::policy;
use crate::gate::request;

fn update(vm: &mut Vm, policy: &Value) -> bool {
    vm.configure(policy.to_string().as_bytes())
}

#[test]
fn a_new_policy_holds_for_a_connection_that_is_open() {
    let mut vm = gate();
    let cart = peer(CART);
    assert_eq!(get(&mut vm, &cart, "/orders/1").status(), Some(200));
    let mut closed = policy();
    closed["rules"] = json!([{ "id": "nobody", "deny": "any", "paths": ["/**"] }]);
    assert!(update(&mut vm, &closed));
    assert_eq!(get(&mut vm, &cart, "/orders/1").status(), Some(403));
    assert!(update(&mut vm, &policy()));
    assert_eq!(get(&mut vm, &cart, "/orders/1").status(), Some(200));
}

#[test]
fn roles_of_a_known_certificate_are_worked_out_anew() {
    let mut vm = gate();
    let cart = peer(CART);
    assert_eq!(vm.request(&cart, request("POST", "/orders/1")).status(), Some(403));
    let mut promoted = policy();
    promoted["roles"]["checkout"] = json!([{ "spiffe": CART }]);
    assert!(update(&mut vm, &promoted));
    let outcome = vm.request(&cart, request("POST", "/orders/1"));
    assert_eq!(outcome.upstream().and_then(|upstream| upstream.single("x-portcullis-roles")), Some("checkout,reader"));
    assert_eq!(vm.request(&peer(CHECKOUT), request("POST", "/orders/1")).status(), Some(403));
}

#[test]
fn a_bad_policy_changes_nothing() {
    let with = |key: &str, value: Value| {
        let mut policy = policy();
        policy[key] = value;
        policy.to_string()
    };
    let failing = json!([{ "name": "cart deletes", "peer": { "spiffe": CART }, "request": "DELETE /orders/1", "expect": { "allow": "all-orders" } }]);
    let cases = [
        ("nothing", String::new()),
        ("no JSON", "version: 1".to_owned()),
        ("cut off", policy().to_string()[..100].to_owned()),
        ("another version", with("version", json!(2))),
        ("an unknown field", with("rule", json!([]))),
        ("an unknown field in a rule", with("rules", json!([{ "id": "a", "allow": "any", "path": ["/"] }]))),
        ("an unknown role", with("rules", json!([{ "id": "a", "allow": ["ghost"], "paths": ["/"] }]))),
        (
            "two rules of one name",
            with(
                "rules",
                json!([
                    { "id": "a", "allow": "any", "paths": ["/a"] },
                    { "id": "a", "allow": "any", "paths": ["/b"] },
                ]),
            ),
        ),
        ("a pattern that cannot match", with("rules", json!([{ "id": "a", "allow": "any", "paths": ["/a/../b"] }]))),
        (
            "a regular expression",
            with("rules", json!([{ "id": "a", "allow": "any", "paths": ["/a.*"] }])).replace("/a.*", "/a*b"),
        ),
        (
            "a role of itself",
            with("roles", json!({ "checkout": [{ "role": "reader" }], "reader": [{ "role": "checkout" }] })),
        ),
        ("a feature of a later version", with("shadow", json!(true))),
        ("its own test fails", with("tests", failing)),
    ];
    let mut vm = gate();
    let cart = peer(CART);
    for (name, document) in cases {
        vm.take_log();
        assert!(!vm.configure(document.as_bytes()), "{name}");
        let refusal = vm.log().iter().find(|line| line.level == LogLevel::Error);
        assert!(refusal.is_some(), "{name} is refused without a word: {:?}", vm.log());
        assert_eq!(get(&mut vm, &cart, "/orders/1").status(), Some(200), "{name}");
        assert_eq!(vm.request(&cart, request("DELETE", "/orders/1")).status(), Some(403), "{name}");
    }
    assert_eq!(vm.failure(), None);
}

#[test]
fn the_refusal_of_a_policy_names_the_place() {
    let mut vm = gate();
    let mut bad = policy();
    bad["rules"][2]["paths"] = json!(["/a//b"]);
    assert!(!update(&mut vm, &bad));
    assert!(vm.log().iter().any(|line| line.text.contains("rules[2].paths[0]")), "{:?}", vm.log());
    bad = policy();
    bad["tests"] = json!([{ "name": "nobody debugs", "peer": { "spiffe": CART }, "request": "GET /debug", "expect": { "allow": "health" } }]);
    assert!(!update(&mut vm, &bad));
    assert!(vm.log().iter().any(|line| line.text.contains("nobody debugs")), "{:?}", vm.log());
}

#[test]
fn without_any_policy_nothing_passes() {
    let mut vm = bare();
    assert_eq!(get(&mut vm, &peer(CHECKOUT), "/healthz").status(), Some(503));
    assert!(!vm.configure(b"{}"));
    assert_eq!(get(&mut vm, &peer(CHECKOUT), "/healthz").status(), Some(503));
}

#[test]
fn a_stream_that_is_open_outlives_its_policy() {
    let mut vm = gate();
    let cart = peer(CART);
    let (stream, outcome) = vm.open(&cart, request("GET", "/orders/1"));
    assert_eq!(outcome.status(), Some(200));
    for _ in 0..3 {
        assert!(update(&mut vm, &policy()));
    }
    let (second, _) = vm.open(&cart, request("GET", "/orders/2"));
    vm.close(stream);
    vm.close(second);
    crate::gate::assert_alive(&mut vm);
}

#[test]
fn a_hundred_updates_leave_nothing_behind() {
    let mut vm = gate();
    let cart = peer(CART);
    let mut settled = 0;
    for round in 0..100 {
        let mut next = policy();
        next["rules"][0]["id"] = json!(format!("all-orders-{round}"));
        assert!(update(&mut vm, &next));
        assert_eq!(get(&mut vm, &cart, "/orders/1").status(), Some(200));
        if round == 20 {
            settled = vm.memory_size();
        }
    }
    assert_eq!(vm.memory_size(), settled, "memory grows with updates");
}

#[test]
fn a_policy_of_ten_thousand_rules_is_taken() {
    let rules: Vec<Value> = (0..10_000)
        .map(|index| json!({ "id": format!("r{index}"), "allow": ["reader"], "paths": [format!("/s{index}/{{id}}")] }))
        .collect();
    let mut large = policy();
    large["rules"] = json!(rules);
    let mut vm = gate_with(&large);
    let outcome = get(&mut vm, &peer(CART), "/s9999/7");
    assert_eq!(outcome.upstream().and_then(|upstream| upstream.single("x-portcullis-rule")), Some("r9999"));
    assert_eq!(vm.gauge("portcullis.policy.rules"), Some(10_000));
    assert!(vm.memory_size() < 64 << 20, "{} bytes", vm.memory_size());
}
