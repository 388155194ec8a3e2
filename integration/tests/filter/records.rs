//! What is written down about decisions, and what never is.

use portcullis_integration::certificates::sha256_hex;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::LogLevel;
use portcullis_integration::wasm_host::LogLine;
use portcullis_integration::wasm_host::Vm;
use portcullis_policy::Leaf;
use portcullis_policy::UnixTime;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::peer;
use crate::gate::policy;
use crate::gate::request_with;

/// The decision records in the log, each with its level.
fn records(vm: &Vm) -> Vec<(LogLevel, Value)> {
    let record = |line: &LogLine| {
        let record: Value = serde_json::from_str(&line.text).ok()?;
        (record["type"] == "decision").then_some((line.level, record))
    };
    vm.log().iter().filter_map(record).collect()
}

/// A gate that records every allowed request as well.
fn recording_gate() -> Vm {
    let mut policy = policy();
    policy["records"] = json!({ "allow_every": 1 });
    gate_with(&policy)
}

#[test]
fn a_refusal_leaves_one_record_that_says_why() {
    let mut vm = gate();
    let leaf = leaf().uri(CART).issue();
    let connection = Connection::mtls(&leaf).id(77);
    let fields: [(&str, &[u8]); 1] = [("x-request-id", b"7d6f1a")];
    vm.request(&connection, request_with("DELETE", "/orders/1?token=hunter2", &fields));
    let records = records(&vm);
    let [(level, record)] = records.as_slice() else { panic!("{:?}", vm.log()) };
    assert_eq!(*level, LogLevel::Warn);
    let expected = json!({
        "type": "decision",
        "time": "2025-11-22T10:00:00Z",
        "policy": record["policy"],
        "decision": "deny",
        "status": 403,
        "reason": "no_rule_matched",
        "identity": CART,
        "roles": ["reader"],
        "method": "DELETE",
        "authority": "orders.acme.example",
        "path": "/orders/1",
        "request_id": "7d6f1a",
        "connection": 77,
        "certificate": sha256_hex(leaf.der()),
        "peer": record["peer"],
    });
    assert_eq!(*record, expected);
    assert_eq!(record["peer"]["spiffe"], CART);
    assert_eq!(record["peer"]["sha256"], record["certificate"]);
    // So that the decision can be made again: the names are those of the certificate.
    let described = Leaf::described(&record["peer"].to_string()).unwrap().unwrap();
    assert_eq!(described.identity(), CART);
    assert!(described.not_before() < described.not_after());
    assert!(record["policy"].as_str().is_some_and(|version| !version.is_empty()));
}

#[test]
fn a_refusal_by_a_rule_names_the_rule_to_the_operator_only() {
    let mut vm = gate();
    let outcome = get(&mut vm, &peer(CHECKOUT), "/debug/vars");
    assert_eq!(records(&vm)[0].1["rule"], "no-debug");
    let body = String::from_utf8_lossy(&outcome.reply().unwrap().body).into_owned();
    assert!(!body.contains("no-debug"), "{body}");
}

#[test]
fn allowed_requests_are_recorded_as_often_as_the_policy_says() {
    for (every, expected) in [(0, 0), (1, 12), (5, 2), (100, 0)] {
        let mut policy = policy();
        policy["records"] = json!({ "allow_every": every });
        let mut vm = gate_with(&policy);
        let checkout = peer(CHECKOUT);
        for _ in 0..12 {
            get(&mut vm, &checkout, "/orders/1");
        }
        let allowed = records(&vm);
        assert_eq!(allowed.len(), expected, "every {every}");
        assert!(allowed.iter().all(|(level, record)| *level == LogLevel::Info && record["rule"] == "all-orders"));
    }
}

#[test]
fn secrets_are_never_written_down() {
    let mut vm = recording_gate();
    let fields: [(&str, &[u8]); 5] = [
        ("authorization", b"Bearer hunter2"),
        ("cookie", b"session=hunter2"),
        ("x-api-key", b"hunter2"),
        ("proxy-authorization", b"Basic hunter2"),
        ("x-portcullis-identity", b"hunter2"),
    ];
    for path in ["/orders/1?password=hunter2", "/debug?hunter2", "/orders/../x?hunter2", "/x#hunter2"] {
        let outcome = vm.request(&peer(CHECKOUT), request_with("GET", path, &fields));
        if let Some(reply) = outcome.reply() {
            assert!(!String::from_utf8_lossy(&reply.body).contains("hunter2"), "{path}");
        }
    }
    assert_eq!(records(&vm).len(), 4);
    assert!(vm.log().iter().all(|line| !line.text.contains("hunter2")), "{:?}", vm.log());
}

#[test]
fn nobody_can_forge_a_line() {
    let forged = r#"{"type":"decision","decision":"allow","identity":"forged"}"#;
    let mut vm = recording_gate();
    let odd = [
        leaf().uri("spiffe://acme.example/a\n{\"type\":\"decision\"}").issue(),
        leaf().subject(rcgen::DnType::CommonName, "x\r\n[warn] forged").issue(),
        leaf().email("\u{1b}[2J\u{7}@acme.example").issue(),
    ];
    let paths = [
        "/%0a%0dforged".to_owned(),
        format!("/{forged}"),
        "/\u{2028}\u{202e}forged".to_owned(),
        "/\u{1b}[31mforged".to_owned(),
        "/\\\"},{\\\"".to_owned(),
    ];
    let mut requests = 0;
    for leaf in &odd {
        for path in &paths {
            let fields: [(&str, &[u8]); 1] = [("x-request-id", forged.as_bytes())];
            vm.request(&Connection::mtls(leaf), request_with("GET", path, &fields));
            requests += 1;
        }
    }
    // One line a request, each a record, and none with anything that could end a line or move a cursor.
    let records = records(&vm);
    assert_eq!(records.len(), requests);
    assert!(records.iter().all(|(_, record)| record["decision"] == "deny" && record["identity"] != "forged"));
    for line in vm.log() {
        assert!(line.text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{:?}", line.text);
    }
}

#[test]
fn a_record_is_bounded_whatever_is_asked() {
    let mut vm = gate();
    let long = "a".repeat(50_000);
    let fields: [(&str, &[u8]); 1] = [("x-request-id", long.as_bytes())];
    vm.request(&peer(CART), request_with("GET", &format!("/{long}"), &fields));
    vm.request(&Connection::tls(), request_with(&long, &format!("/{long}"), &fields));
    assert_eq!(records(&vm).len(), 2);
    assert!(
        vm.log().iter().all(|line| line.text.len() < 8_192),
        "{:?}",
        vm.log().iter().map(|line| line.text.len()).max()
    );
}

#[test]
fn each_record_has_the_second_of_its_decision() {
    let mut vm = gate();
    let times = |vm: &Vm| -> Vec<Value> { records(vm).into_iter().map(|(_, record)| record["time"].clone()).collect() };
    for second in [NOW.0, NOW.0, NOW.0 + 1, NOW.0] {
        vm.set_time(UnixTime(second));
        get(&mut vm, &Connection::tls(), "/orders/1");
    }
    let [now, next] = ["2025-11-22T10:00:00Z", "2025-11-22T10:00:01Z"];
    assert_eq!(times(&vm), [now, now, next, now]);
}

#[test]
fn a_flood_of_one_kind_waits_for_the_tick_or_for_enough() {
    let mut vm = gate();
    let connection = peer(CART);
    let mut written = Vec::new();
    for number in 0..200 {
        get(&mut vm, &connection, &format!("/no/{number}"));
        written.push(records(&vm).len());
    }
    let at_once: Vec<usize> = (1..=16).collect();
    assert_eq!(written[..16], at_once, "the first ones come one by one");
    let length = vm.log().last().unwrap().text.len();
    for (sent, written) in (1..).zip(&written) {
        let waiting = (sent - written) * length;
        assert!(waiting < 17 * 1024, "{waiting} bytes wait after {sent}");
    }
    let mut messages = written[15..].to_vec();
    messages.dedup();
    assert!(messages.len() > 3, "none waits for ever: {messages:?}");
    assert!(messages.array_windows().all(|[before, after]| after - before > 8), "many come together: {messages:?}");
    vm.tick();
    assert_eq!(records(&vm).len(), 200);
}

#[test]
fn a_flood_is_written_several_records_at_a_time_and_none_is_left_out() {
    let mut policy = policy();
    policy["records"] = json!({ "allow_every": 1 });
    let mut vm = gate_with(&policy);
    let connection = peer(CART);
    let paths: Vec<String> =
        (0..200).map(|number| format!("/{}/{number}", if number % 3 == 0 { "orders" } else { "no" })).collect();
    for path in &paths[..10] {
        get(&mut vm, &connection, path);
    }
    assert_eq!(records(&vm).len(), 10, "few are written at once");
    for path in &paths[10..] {
        get(&mut vm, &connection, path);
    }
    assert!(records(&vm).len() < 200, "a flood is not");
    vm.tick();
    let told: Vec<(LogLevel, String)> =
        records(&vm).iter().map(|(level, record)| (*level, record["path"].as_str().unwrap().to_owned())).collect();
    let expected: Vec<(LogLevel, String)> = (0..)
        .zip(&paths)
        .map(|(number, path)| (if number % 3 == 0 { LogLevel::Info } else { LogLevel::Warn }, path.clone()))
        .collect();
    assert_eq!(told, expected, "each once, in order, with its level");
    get(&mut vm, &connection, "/after");
    assert_eq!(records(&vm).len(), 201, "at once again");
}
