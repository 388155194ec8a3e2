//! Shadow rules and candidates: what they would decide is counted and written down, and nothing else comes of it.

use portcullis_integration::wasm_host::Vm;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::answer;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::peer;
use crate::gate::policy;

fn shadowed() -> Vm {
    let mut policy = policy();
    let rules = policy["rules"].as_array_mut().unwrap();
    rules.push(json!({ "id": "closing", "deny": ["checkout"], "paths": ["/orders/{id}"], "shadow": true }));
    rules.push(json!({ "id": "opening", "allow": ["reader"], "paths": ["/new"], "shadow": true }));
    gate_with(&policy)
}

fn with_candidate() -> Vm {
    let mut candidate = policy();
    candidate["rules"][0]["id"] = json!("all-orders-2");
    candidate["rules"][1]["paths"] = json!(["/new"]);
    let mut policy = policy();
    policy["candidate"] = candidate;
    gate_with(&policy)
}

/// The fields of each decision record that are about other verdicts.
fn told(vm: &mut Vm) -> Vec<(Value, Value)> {
    let lines = vm.take_log();
    let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
    records.map(|record| (record["shadow"].clone(), record["candidate"].clone())).collect()
}

fn counted(vm: &Vm, whose: &str) -> [Option<u64>; 3] {
    ["would_allow", "would_deny", "other_rule"].map(|what| vm.counter(&format!("portcullis.{whose}.{what}")))
}

#[test]
fn a_shadow_rule_is_counted_and_not_enforced() {
    let mut vm = shadowed();
    assert_eq!(counted(&vm, "shadow"), [Some(0); 3]);
    vm.take_log();
    assert_eq!(get(&mut vm, &peer(CHECKOUT), "/orders/1").status(), Some(200));
    let denied = json!({ "decision": "deny", "status": 403, "reason": "deny_rule_matched", "rule": "closing" });
    assert_eq!(told(&mut vm), [(denied, Value::Null)], "the first one leaves a record");
    assert_eq!(answer(&get(&mut vm, &peer(CART), "/new")), (403, "no_rule_matched".to_owned()));
    let allowed = json!({ "decision": "allow", "status": 200, "reason": "rule_matched", "rule": "opening" });
    assert_eq!(told(&mut vm), [(allowed, Value::Null)]);
    get(&mut vm, &peer(CART), "/orders/1");
    assert_eq!(counted(&vm, "shadow"), [Some(1), Some(1), Some(0)]);
    assert_eq!(counted(&vm, "candidate"), [Some(0); 3]);
}

#[test]
fn a_candidate_is_counted_and_not_enforced() {
    let mut vm = with_candidate();
    vm.take_log();
    let outcome = get(&mut vm, &peer(CHECKOUT), "/orders/1");
    assert_eq!(outcome.upstream().and_then(|upstream| upstream.single("x-portcullis-rule")), Some("all-orders"));
    assert_eq!(told(&mut vm).len(), 1, "the first one leaves a record");
    assert_eq!(get(&mut vm, &peer(CART), "/orders/1").status(), Some(200));
    assert_eq!(told(&mut vm), [], "the second one does not");
    assert_eq!(get(&mut vm, &peer(CART), "/new").status(), Some(403));
    let allowed = json!({ "decision": "allow", "status": 200, "reason": "rule_matched", "rule": "read-orders" });
    assert_eq!(told(&mut vm), [(Value::Null, allowed)]);
    assert_eq!(counted(&vm, "candidate"), [Some(1), Some(1), Some(1)]);
    assert_eq!(counted(&vm, "shadow"), [Some(0); 3]);
}

#[test]
fn divergences_that_repeat_leave_a_record_now_and_then() {
    let mut vm = shadowed();
    vm.take_log();
    let checkout = peer(CHECKOUT);
    for _ in 0..250 {
        get(&mut vm, &checkout, "/orders/1");
    }
    assert_eq!(told(&mut vm).len(), 3);
    vm.tick();
    assert_eq!(counted(&vm, "shadow"), [Some(0), Some(250), Some(0)]);
}
