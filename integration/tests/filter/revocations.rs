//! What an agent says is revoked, beside the policy.

use std::time::Instant;

use portcullis_integration::wasm_host::Connection;
use portcullis_policy::Policy;
use portcullis_policy::UnixTime;
use portcullis_policy::revocation;
use portcullis_policy::revocation::Freshness;
use portcullis_policy::revocation::Key;
use portcullis_policy::revocation::Revocations;
use portcullis_policy::revocation::WhenStale;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::answer;
use crate::gate::gate;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::policy;

const STALE: &str = "portcullis.revocations.stale";

/// The usual policy with this set.
fn with(set: &Revocations) -> String {
    let policy = Policy::from_json(policy().to_string().as_bytes()).expect("a policy");
    revocation::join(&policy.to_json(), policy.version(), set).0
}

#[test]
fn one_among_a_hundred_thousand_is_refused_and_others_go_on() {
    let mut vm = gate();
    let (checkout, cart) = (leaf().uri(CHECKOUT).issue(), leaf().uri(CART).issue());
    let [checkout, cart] = [&checkout, &cart].map(Connection::mtls);
    for connection in [&checkout, &cart] {
        assert_eq!(get(&mut vm, connection, "/orders/1").status(), Some(200));
    }
    let others = (0..100_000).map(|number: u32| Key::of_identity(&number.to_string()));
    let set = Revocations::new(others.chain([Key::of_identity(CART)]).collect(), Vec::new(), Freshness::default());
    let text = with(&set);
    let began = Instant::now();
    assert!(vm.configure(text.as_bytes()), "{:?}", vm.log());
    println!("{} bytes were in force after {:?}", text.len(), began.elapsed());
    assert_eq!(answer(&get(&mut vm, &cart, "/orders/1")), (401, "certificate_revoked".to_owned()));
    assert_eq!(get(&mut vm, &checkout, "/orders/1").status(), Some(200));
    assert!(vm.configure(with(&Revocations::default()).as_bytes()));
    assert_eq!(get(&mut vm, &cart, "/orders/1").status(), Some(200));
}

#[test]
fn a_stale_set_is_counted_and_refuses_or_not_as_it_says() {
    for (when_stale, want) in [(WhenStale::Deny, 401), (WhenStale::Allow, 200)] {
        let mut vm = gate();
        let checkout = Connection::mtls(&leaf().uri(CHECKOUT).issue());
        let freshness = Freshness { until: Some(NOW), when_stale };
        assert!(vm.configure(with(&Revocations::new(Vec::new(), Vec::new(), freshness)).as_bytes()));
        assert_eq!(get(&mut vm, &checkout, "/orders/1").status(), Some(200));
        assert_eq!(vm.counter(STALE).unwrap_or_default(), 0);
        vm.set_time(UnixTime(NOW.0 + 1));
        let outcome = get(&mut vm, &checkout, "/orders/1");
        assert_eq!(outcome.status(), Some(want), "{when_stale:?}");
        assert_eq!(vm.counter(STALE), Some(1), "{when_stale:?}");
        if when_stale == WhenStale::Deny {
            assert_eq!(answer(&outcome).1, "revocation_stale");
        }
    }
}

#[test]
fn a_set_that_is_not_sorted_is_refused_and_the_one_before_stays() {
    let mut vm = gate();
    let cart = Connection::mtls(&leaf().uri(CART).issue());
    let set = Revocations::new(vec![Key::of_identity(CART)], Vec::new(), Freshness::default());
    assert!(vm.configure(with(&set).as_bytes()));
    let mut bad = policy();
    bad["revocations"] = serde_json::json!({ "keys": "AgICAgICAgICAgICAgICAgEBAQEBAQEBAQEBAQEBAQE=" });
    assert!(!vm.configure(bad.to_string().as_bytes()));
    assert!(vm.log().iter().any(|line| format!("{line:?}").contains("revocations.keys")), "{:?}", vm.log());
    assert_eq!(answer(&get(&mut vm, &cart, "/orders/1")).1, "certificate_revoked");
}
