//! TCP connections: decided at their first bytes, whichever side they come from, and judged again as long as they are open.

use portcullis_integration::wasm_host::Bytes;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::Fault;
use portcullis_integration::wasm_host::Neighbour;
use portcullis_integration::wasm_host::Side::Downstream;
use portcullis_integration::wasm_host::Side::Upstream;
use portcullis_integration::wasm_host::StreamId;
use portcullis_integration::wasm_host::Vm;
use portcullis_policy::UnixTime;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::assert_alive;
use crate::gate::bare;
use crate::gate::gate;
use crate::gate::leaf;
use crate::gate::peer;
use crate::gate::policy;
use crate::gate::request;

/// The policy of requests, and `checkout` may connect.
fn with_tcp() -> Value {
    let mut policy = policy();
    policy["tcp"] = json!([{ "id": "db", "allow": ["checkout"], "listeners": [":10443"] }]);
    policy
}

/// The filter twice in one VM: for requests, and for connections.
fn both() -> (Vm, Neighbour) {
    let mut vm = gate();
    let tcp = vm.add_network_filter("tcp", with_tcp().to_string().as_bytes());
    let tcp = tcp.unwrap_or_else(|| panic!("{:?}", vm.log()));
    (vm, tcp)
}

fn records(vm: &mut Vm) -> Vec<Value> {
    let lines = vm.take_log();
    let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
    records.filter(|record| record["type"] == "decision").collect()
}

fn open(vm: &mut Vm, tcp: Neighbour, connection: &Connection) -> StreamId {
    let stream = vm.connect(tcp, connection);
    assert_eq!(vm.carry(stream, Downstream), Bytes::Passed, "{:?}", vm.log());
    stream
}

fn counters(vm: &Vm) -> [Option<u64>; 3] {
    ["allowed", "denied", "ended"].map(|what| vm.counter(&format!("portcullis.connections.{what}")))
}

#[test]
fn a_connection_is_decided_at_its_first_bytes() {
    let (mut vm, tcp) = both();
    let allowed = vm.connect(tcp, &peer(CHECKOUT));
    assert_eq!(counters(&vm), [Some(0); 3], "before the handshake there is nobody to decide about");
    assert_eq!(vm.carry(allowed, Downstream), Bytes::Passed);
    assert_eq!(vm.carry(allowed, Upstream), Bytes::Passed);
    assert_eq!(vm.carry(allowed, Downstream), Bytes::Passed);
    assert_eq!(counters(&vm), [Some(1), Some(0), Some(0)], "once");
    vm.take_log();

    let refused = vm.connect(tcp, &peer(CART));
    for side in [Downstream, Downstream, Upstream] {
        assert_eq!(vm.carry(refused, side), Bytes::Closed, "nor later, while it is being closed");
    }
    assert_eq!(counters(&vm), [Some(1), Some(1), Some(0)]);
    assert_eq!(vm.counter("portcullis.denied.no_rule_matched"), Some(1));
    assert_eq!(vm.counter("portcullis.requests.denied"), Some(0));
    let records = records(&mut vm);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record["protocol"], "tcp");
    assert_eq!(record["decision"], "deny");
    assert_eq!(record["reason"], "no_rule_matched");
    assert_eq!(record["identity"], CART);
    assert_eq!(record["listener"], "10.0.0.1:10443");
    assert_eq!(record["method"], Value::Null);
    vm.close(allowed);
    vm.close(refused);
    assert_alive(&mut vm);
}

#[test]
fn a_service_that_speaks_first_is_held_back_from_who_may_not_hear_it() {
    let (mut vm, tcp) = both();
    let refused = vm.connect(tcp, &peer(CART));
    assert_eq!(vm.carry(refused, Upstream), Bytes::Closed);
    let allowed = vm.connect(tcp, &peer(CHECKOUT));
    assert_eq!(vm.carry(allowed, Upstream), Bytes::Passed);
    assert_eq!(counters(&vm), [Some(1), Some(1), Some(0)]);
}

#[test]
fn what_a_service_says_before_the_handshake_reaches_nobody() {
    let mut vm = bare();
    let mut anybody = with_tcp();
    anybody["tcp"] = json!([{ "id": "all", "allow": "any" }, { "id": "not-cart", "deny": ["cart"] }]);
    anybody["roles"]["cart"] = json!([{ "spiffe": CART }]);
    let tcp = vm.add_network_filter("tcp", anybody.to_string().as_bytes()).unwrap();
    let early = vm.accept(tcp);
    assert_eq!(vm.carry(early, Upstream), Bytes::Closed, "whoever it is");
    vm.shake_hands(early, &peer(CHECKOUT));
    assert_eq!(vm.carry(early, Downstream), Bytes::Closed);
    assert_eq!(counters(&vm), [Some(0), Some(1), Some(0)]);
    let later = vm.accept(tcp);
    vm.shake_hands(later, &peer(CHECKOUT));
    assert_eq!(vm.carry(later, Upstream), Bytes::Passed);
}

#[test]
fn silence_of_the_host_is_not_absence_of_a_certificate() {
    let mut vm = bare();
    let mut anybody = with_tcp();
    anybody["tcp"] = json!([{ "id": "all", "allow": "any" }]);
    anybody["own_xfcc"] = json!(true);
    let tcp = vm.add_network_filter("tcp", anybody.to_string().as_bytes()).unwrap();
    let silent = peer(CHECKOUT)
        .fault(Fault::Missing("connection.sha256_peer_certificate_digest"))
        .fault(Fault::Missing("connection.mtls"));
    let stream = vm.connect(tcp, &silent);
    assert_eq!(vm.carry(stream, Downstream), Bytes::Closed);
}

#[test]
fn who_cannot_be_asked_about_is_refused() {
    let (mut vm, tcp) = both();
    for (name, connection) in [
        ("no certificate", Connection::tls()),
        ("no TLS", Connection::plaintext()),
        ("another port", peer(CHECKOUT).to("10.0.0.1:5432".parse().unwrap())),
        ("no address to compare", peer(CHECKOUT).fault(Fault::Missing("destination.address"))),
        (
            "a certificate of somebody else",
            peer(CHECKOUT).fault(Fault::Value("connection.peer_certificate", b"x".to_vec())),
        ),
        ("no digest", peer(CHECKOUT).fault(Fault::Missing("connection.sha256_peer_certificate_digest"))),
    ] {
        let stream = vm.connect(tcp, &connection);
        assert_eq!(vm.carry(stream, Downstream), Bytes::Closed, "{name}");
        assert_eq!(vm.failure(), None, "{name}");
        vm.close(stream);
    }
    assert_alive(&mut vm);
}

#[test]
fn a_configuration_without_rules_about_connections_lets_nobody_connect() {
    let mut vm = bare();
    let tcp = vm.add_network_filter("tcp:portcullis-1", policy().to_string().as_bytes()).unwrap();
    let stream = vm.connect(tcp, &peer(CHECKOUT));
    assert_eq!(vm.carry(stream, Downstream), Bytes::Closed);
    assert!(vm.add_network_filter("tcp", b"{}").is_none(), "what is no policy is refused there too");
}

#[test]
fn an_idle_connection_ends_with_its_certificate() {
    let (mut vm, tcp) = both();
    let until = |seconds: i64| {
        let end = u64::try_from(NOW.0 + seconds).unwrap();
        Connection::mtls(&leaf().uri(CHECKOUT).valid(0, end).issue())
    };
    let streams = [60, 600].map(|seconds| open(&mut vm, tcp, &until(seconds)));
    let request = vm.open(&until(600), request("GET", "/orders/1")).0;
    vm.set_time(UnixTime(NOW.0 + 60));
    vm.tick();
    assert_eq!(streams.map(|stream| vm.is_reset(stream)), [false, false]);
    vm.take_log();
    vm.set_time(UnixTime(NOW.0 + 61));
    vm.tick();
    assert_eq!(streams.map(|stream| vm.is_reset(stream)), [true, false]);
    assert!(!vm.is_reset(request));
    assert_eq!(counters(&vm), [Some(2), Some(0), Some(1)]);
    assert_eq!(vm.counter("portcullis.streams.ended"), Some(0));
    assert_eq!(vm.counter("portcullis.ended.certificate_expired"), Some(1));
    let records = records(&mut vm);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&record["stream"], &record["protocol"]), (&json!("ended"), &json!("tcp")));
    assert_eq!(record["identity"], CHECKOUT);
    for side in [Downstream, Upstream] {
        assert_eq!(vm.carry(streams[0], side), Bytes::Closed, "not while it is being closed either");
        assert_eq!(vm.carry(streams[1], side), Bytes::Passed);
    }
}

#[test]
fn a_connection_ends_when_its_policy_is_replaced_by_one_that_refuses_it() {
    let (mut vm, tcp) = both();
    let streams = [open(&mut vm, tcp, &peer(CHECKOUT)), open(&mut vm, tcp, &peer(CHECKOUT))];
    let mut same = with_tcp();
    same["rules"] = json!([]);
    vm.add_network_filter("tcp", same.to_string().as_bytes()).unwrap();
    vm.tick();
    assert_eq!(streams.map(|stream| vm.is_reset(stream)), [false, false], "another policy that lets them in");
    vm.close(streams[0]);
    let mut closed = with_tcp();
    closed["tcp"] = json!([]);
    vm.add_network_filter("tcp", closed.to_string().as_bytes()).unwrap();
    vm.tick();
    assert!(vm.is_reset(streams[1]));
    assert_eq!(counters(&vm)[2], Some(1));
    assert_alive(&mut vm);
}

#[test]
fn a_fresh_machine_decides_connections_too() {
    let (mut vm, tcp) = both();
    let before = open(&mut vm, tcp, &peer(CHECKOUT));
    vm.reload().unwrap();
    let after = open(&mut vm, tcp, &peer(CHECKOUT));
    let refused = vm.connect(tcp, &peer(CART));
    assert_eq!(vm.carry(refused, Downstream), Bytes::Closed);
    assert_ne!(before, after);
    assert_alive(&mut vm);
}
