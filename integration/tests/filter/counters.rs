//! What is counted.

use std::collections::BTreeSet;

use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Vm;
use portcullis_policy::Reason;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::gate;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::peer;
use crate::gate::policy;
use crate::gate::request;

#[test]
fn requests_are_counted_by_verdict_and_reason() {
    let mut vm = gate();
    let (checkout, cart) = (peer(CHECKOUT), peer(CART));
    for _ in 0..3 {
        get(&mut vm, &checkout, "/orders/1");
    }
    get(&mut vm, &checkout, "/debug");
    get(&mut vm, &cart, "/other");
    get(&mut vm, &cart, "/other");
    get(&mut vm, &cart, "//");
    get(&mut vm, &Connection::tls(), "/orders/1");
    get(&mut vm, &Connection::mtls(&leaf().uri(CHECKOUT).valid(1, 2).issue()), "/orders/1");
    let expected = [
        ("portcullis.requests.allowed", 3),
        ("portcullis.requests.denied", 6),
        ("portcullis.denied.deny_rule_matched", 1),
        ("portcullis.denied.no_rule_matched", 2),
        ("portcullis.denied.path_empty_segment", 1),
        ("portcullis.denied.no_certificate", 1),
        ("portcullis.denied.certificate_expired", 1),
        ("portcullis.denied.internal_error", 0),
    ];
    for (name, count) in expected {
        assert_eq!(vm.counter(name), Some(count), "{name}");
    }
}

#[test]
fn a_flood_is_counted_several_at_a_time_and_nothing_is_left_out() {
    const FLOOD: u64 = 1_000;
    let mut vm = gate();
    let cart = peer(CART);
    for _ in 0..FLOOD {
        get(&mut vm, &cart, "/other");
    }
    let denied = |vm: &Vm| vm.counter("portcullis.requests.denied").unwrap_or_default();
    assert!(denied(&vm) < FLOOD, "each is told at once");
    vm.tick();
    assert_eq!(denied(&vm), FLOOD);
    assert_eq!(vm.counter("portcullis.denied.no_rule_matched"), Some(FLOOD));
    get(&mut vm, &cart, "/other");
    assert_eq!(denied(&vm), FLOOD + 1, "at once again");
}

#[test]
fn every_reason_to_refuse_has_a_counter_from_the_start() {
    let vm = gate();
    for reason in Reason::ALL.iter().filter(|reason| reason.status() != 200) {
        let name = format!("portcullis.denied.{}", reason.code());
        assert_eq!(vm.counter(&name), Some(0), "{name}");
    }
}

#[test]
fn configurations_are_counted_and_the_gauge_follows_the_one_in_force() {
    let mut vm = gate();
    assert_eq!(vm.gauge("portcullis.policy.rules"), Some(4));
    let mut smaller = policy();
    smaller["rules"].as_array_mut().unwrap().truncate(2);
    assert!(vm.configure(smaller.to_string().as_bytes()));
    assert!(!vm.configure(b"{"));
    assert_eq!(vm.gauge("portcullis.policy.rules"), Some(2));
    assert_eq!(vm.counter("portcullis.configurations.accepted"), Some(2));
    assert_eq!(vm.counter("portcullis.configurations.refused"), Some(1));
}

#[test]
fn no_client_can_make_a_metric() {
    let mut vm = gate();
    let names: BTreeSet<String> = vm.metric_names().map(str::to_owned).collect();
    let definitions = vm.metric_definitions();
    for index in 0..200 {
        let stranger = peer(&format!("spiffe://acme.example/ns/{index}/sa/x"));
        vm.request(&stranger, request(&format!("M{index}"), &format!("/p{index}")));
        assert!(vm.configure(policy().to_string().as_bytes()));
    }
    assert_eq!(vm.metric_names().map(str::to_owned).collect::<BTreeSet<_>>(), names);
    assert_eq!(vm.metric_definitions(), definitions, "metrics are defined again and again");
}
