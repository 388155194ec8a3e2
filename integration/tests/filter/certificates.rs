//! What the filter remembers of certificates, and what it asks again on every request.

use portcullis_integration::certificates::Authority;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Fault;
use portcullis_policy::UnixTime;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::answer;
use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::peer;
use crate::gate::policy;

const PARSED: &str = "portcullis.certificates.parsed";
const CACHED: &str = "portcullis.certificates.cached";

fn at(offset: i64) -> UnixTime {
    UnixTime(NOW.0 + offset)
}

#[test]
fn a_certificate_is_parsed_once() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for _ in 0..10 {
        assert_eq!(get(&mut vm, &checkout, "/orders/1").status(), Some(200));
    }
    assert_eq!((vm.counter(PARSED), vm.counter(CACHED)), (Some(1), Some(9)));
}

#[test]
fn a_certificate_that_is_known_still_expires() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    // The last valid second is the one of `notAfter` itself (RFC 5280 §4.1.2.5).
    for (offset, expected) in [(0, 200), (1_800, 200), (1_801, 401), (86_400, 401), (0, 200)] {
        vm.set_time(at(offset));
        let outcome = get(&mut vm, &checkout, "/orders/1");
        assert_eq!(outcome.status(), Some(expected), "{offset} s: {:?}", answer(&outcome));
        if expected == 401 {
            assert_eq!(answer(&outcome).1, "certificate_expired");
        }
    }
}

#[test]
fn a_certificate_becomes_valid_while_its_connection_stays() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for (offset, expected) in [(-1_801, "certificate_not_yet_valid"), (-1_800, ""), (0, "")] {
        vm.set_time(at(offset));
        assert_eq!(answer(&get(&mut vm, &checkout, "/orders/1")).1, expected, "{offset} s");
    }
}

#[test]
fn nobody_inherits_what_was_learned_of_another() {
    let mut vm = gate();
    let (checkout, cart) = (peer(CHECKOUT), peer(CART));
    // The same connection identifier, and in turns, so that every memory of the last one would show.
    for _ in 0..3 {
        assert_eq!(vm.request(&checkout, crate::gate::request("POST", "/orders/1")).status(), Some(200));
        assert_eq!(vm.request(&cart, crate::gate::request("POST", "/orders/1")).status(), Some(403));
        assert_eq!(vm.request(&Connection::tls(), crate::gate::request("POST", "/orders/1")).status(), Some(401));
    }
}

#[test]
fn a_renewed_certificate_is_another_certificate() {
    let mut vm = gate();
    let (old, new) = (leaf().uri(CHECKOUT).issue(), leaf().uri(CHECKOUT).issue());
    let mut revoking = policy();
    revoking["revoked"] = json!({ "sha256": [old.sha256_hex()] });
    for leaf in [&old, &new] {
        assert_eq!(get(&mut vm, &Connection::mtls(leaf), "/orders/1").status(), Some(200));
    }
    assert!(vm.configure(revoking.to_string().as_bytes()));
    assert_eq!(answer(&get(&mut vm, &Connection::mtls(&old), "/orders/1")).1, "certificate_revoked");
    assert_eq!(get(&mut vm, &Connection::mtls(&new), "/orders/1").status(), Some(200));
}

#[test]
fn a_digest_of_another_certificate_is_no_key() {
    let (checkout, cart) = (leaf().uri(CHECKOUT).issue(), leaf().uri(CART).issue());
    let digest = "connection.sha256_peer_certificate_digest";
    let lying = Connection::mtls(&cart).fault(Fault::Value(digest, checkout.sha256_hex().into_bytes()));
    let mut vm = gate();
    assert_eq!(get(&mut vm, &lying, "/orders/1").status(), Some(503));
    // What was refused has not been remembered under the wrong name.
    assert_eq!(get(&mut vm, &Connection::mtls(&checkout), "/orders/1").status(), Some(200));
}

#[test]
fn what_is_no_certificate_is_refused_each_time() {
    let mut vm = gate();
    let der = leaf().uri(CHECKOUT).issue().der().to_vec();
    let truncated = der[..der.len() - 1].to_vec();
    let trailing = [der.as_slice(), b"x"].concat();
    for certificate in [b"".to_vec(), b"garbage".to_vec(), vec![0x30; 3_000], truncated, trailing] {
        let connection = Connection::presenting(certificate);
        for _ in 0..2 {
            let outcome = get(&mut vm, &connection, "/healthz");
            assert_eq!(answer(&outcome), (401, "certificate_unreadable".to_owned()));
        }
    }
    crate::gate::assert_alive(&mut vm);
}

#[test]
fn a_thousand_certificates_do_not_crowd_out_the_truth() {
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    for index in 0..300 {
        let passer = peer(&format!("spiffe://acme.example/ns/n{index}/sa/x"));
        assert_eq!(get(&mut vm, &passer, "/orders/1").status(), Some(200), "{index}");
    }
    assert_eq!(get(&mut vm, &checkout, "/orders/1").status(), Some(200));
    vm.tick();
    assert_eq!(vm.counter(PARSED), Some(301));
}

#[test]
fn what_is_forgotten_is_read_again_and_means_the_same() {
    const REMEMBERED: u16 = 8_192;
    const SERIAL: [u8; 8] = [0x11; 8];
    let issued = leaf().uri(CART).serial(&SERIAL).issue();
    let place = issued.der().windows(8).position(|bytes| bytes == SERIAL).unwrap();
    // Another serial number makes another certificate; nobody looks at the signature here.
    let numbered = |number: u16| {
        let mut der = issued.der().to_vec();
        der[place + 6..place + 8].copy_from_slice(&number.to_be_bytes());
        Connection::presenting(der)
    };
    let mut vm = gate();
    let checkout = peer(CHECKOUT);
    assert_eq!(vm.request(&checkout, crate::gate::request("POST", "/orders/1")).status(), Some(200));
    let mut half_way = 0;
    for number in 0..REMEMBERED {
        assert_eq!(get(&mut vm, &numbered(number), "/orders/1").status(), Some(200), "{number}");
        if number == REMEMBERED / 2 {
            half_way = vm.memory_size();
        }
    }
    assert!(vm.memory_size() <= 3 * half_way, "{} bytes after {half_way}", vm.memory_size());
    vm.tick();
    let parsed = vm.counter(PARSED).unwrap();
    assert_eq!(parsed, u64::from(REMEMBERED) + 1);
    // The newest are remembered, the oldest is not; neither becomes somebody else.
    assert_eq!(vm.request(&numbered(REMEMBERED - 1), crate::gate::request("POST", "/orders/1")).status(), Some(403));
    assert_eq!(vm.counter(PARSED), Some(parsed));
    assert_eq!(vm.request(&checkout, crate::gate::request("POST", "/orders/1")).status(), Some(200));
    assert_eq!(vm.counter(PARSED), Some(parsed + 1));
}

#[test]
fn a_thousand_names_in_a_certificate_are_all_looked_at() {
    let mut names = leaf();
    for index in 0..999 {
        names = names.dns(format!("n{index}.other.example"));
    }
    let last = names.dns("a.reader.acme.example").issue();
    let mut policy = policy();
    policy["roles"]["reader"] = json!([{ "dns": "*.reader.acme.example" }]);
    let mut vm = gate_with(&policy);
    let outcome = get(&mut vm, &Connection::mtls(&last), "/orders/1");
    // Read to the end, or refused as a whole: never read in part.
    assert!(matches!(answer(&outcome), (200, _)) || answer(&outcome).1 == "certificate_unreadable", "{outcome:?}");
    crate::gate::assert_alive(&mut gate());
}

/// A listener may let anybody in: the filter finds out for itself who signed.
#[test]
fn only_certificates_of_an_anchor_are_believed() {
    let (ours, stranger) = (Authority::new("Portcullis clients"), Authority::new("Portcullis clients"));
    let connection = |authority: &Authority| Connection::mtls(&authority.leaf().uri(CHECKOUT).issue());
    let mut anchored = policy();
    anchored["anchors"] = json!([{ "pem": ours.pem() }]);
    let mut vm = gate_with(&anchored);
    assert_eq!(answer(&get(&mut vm, &connection(&ours), "/orders/1")), (200, String::new()));
    let refused = get(&mut vm, &connection(&stranger), "/orders/1");
    assert_eq!(answer(&refused), (401, "certificate_issuer_unknown".to_owned()));
    assert_eq!(answer(&get(&mut vm, &Connection::tls(), "/healthz")), (200, String::new()));
}
