//! A clock that was ahead and went back leaves certificates of the future: they are replaced, not waited for.

use jiff::Timestamp;
use portcullis::ca::Authority;
use portcullis::command::Usage;
use portcullis::config;
use portcullis::leaf;
use portcullis::leaf::Leaf;
use portcullis::names::Names;
use portcullis::store::LocalStore;
use portcullis::store::Store as _;
use portcullis_policy::UnixTime;
use serde_json::Value;
use serde_json::json;

use crate::support::Desk;
use crate::support::serial;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost], lifetime: 24h, files: { directory: tls } }\n";
const YEAR: i64 = 365 * 86_400;

/// Puts into the store what an agent would have left there whose clock was a year ahead.
fn live_a_year_ahead(desk: &Desk) -> String {
    let now = UnixTime(Timestamp::now().as_second() + YEAR);
    let directory = desk.path("state/ca");
    let ca = config::Ca { trust_domain: "acme.example".to_owned(), root_lifetime: 0, ..config::Ca::default() };
    let (authority, _) = Authority::open(&directory, &ca, now).expect("the agent's");
    let names = Names::new(None, vec!["localhost".to_owned()], Vec::new(), vec![Usage::Server], "acme.example");
    let order = authority.order(names.expect("names"), 86_400, &directory, now).expect("an order");
    let chain_pem = authority.sign(&order).expect("signed");
    let leaf = Leaf::from_der(&leaf::chain(&chain_pem).expect("a chain")[0]).expect("a leaf");

    let store = LocalStore::open(&desk.path("state/store.redb")).expect("a store").store;
    let found = store.read("certificate/gateway").expect("read").expect("there");
    let mut entry: Value = serde_json::from_slice(&found.value).expect("JSON");
    entry["stored"] = json!({
        "chain_pem": chain_pem, "key": order.key, "leaf": leaf, "renew_at": now.0 + 43_200, "issued_ms": now.0 * 1_000,
    });
    // It was on its way to be renewed once more, and waited.
    entry["flight"] = json!({ "cause": "due", "edge": "journal", "obtained": null });
    entry["retry_at"] = json!(now.0 + 60);
    let value = serde_json::to_vec(&entry).expect("JSON");
    store.swap("certificate/gateway", Some(found.version), &value, &[]).expect("swapped");
    leaf.serial
}

#[test]
fn a_leaf_of_the_future_is_replaced_at_once() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "ready", |status| status.ready);
    assert!(agent.terminate().success());
    let future = live_a_year_ahead(&desk);
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "ready again", |status| {
        status.ready && status.certificates[0].stored.as_ref().is_some_and(|leaf| leaf.serial != future)
    });
    let stored = status.certificates[0].stored.clone().expect("stored");
    assert!(stored.not_before <= Timestamp::now() && Timestamp::now() < stored.not_after);
    assert_eq!(serial(&desk.path("tls/tls.crt")), Some(stored.serial));
}
