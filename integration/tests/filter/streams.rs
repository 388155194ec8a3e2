//! Streams that stay open: each is judged again when what let it in may have changed, and ends if it would be refused.

use std::time::Duration;

use portcullis_integration::tokens::TokenIssuer;
use portcullis_integration::wasm_host::Connection;
use portcullis_integration::wasm_host::NAME;
use portcullis_integration::wasm_host::Neighbour;
use portcullis_integration::wasm_host::StreamId;
use portcullis_integration::wasm_host::Vm;
use portcullis_policy::UnixTime;
use serde_json::Value;
use serde_json::json;

use crate::gate::CART;
use crate::gate::CHECKOUT;
use crate::gate::NOW;
use crate::gate::answer;
use crate::gate::assert_alive;
use crate::gate::gate;
use crate::gate::gate_with;
use crate::gate::get;
use crate::gate::leaf;
use crate::gate::peer;
use crate::gate::policy;
use crate::gate::request;
use crate::gate::request_with;

const ENDED: &str = "portcullis.streams.ended";

/// A stream that was let through and goes on.
fn opened(vm: &mut Vm, connection: &Connection, method: &str, path: &str) -> StreamId {
    let (stream, outcome) = vm.open(connection, request(method, path));
    assert_eq!(outcome.status(), Some(200), "{:?}", vm.log());
    stream
}

/// Which of the streams the filter has ended, after it has looked.
fn ended<const N: usize>(vm: &mut Vm, streams: [StreamId; N]) -> [bool; N] {
    assert!(vm.tick() > 0, "the filter has no timer");
    assert_eq!(vm.failure(), None);
    streams.map(|stream| vm.is_reset(stream))
}

fn at(seconds: i64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

/// The records of ended streams: reason, and rule if one refused.
fn records(vm: &mut Vm) -> Vec<Value> {
    let lines = vm.take_log();
    let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
    records.filter(|record| record["stream"] == "ended").collect()
}

#[test]
fn a_stream_ends_with_its_certificate() {
    let mut vm = gate();
    let seconds = |to: u64| Connection::mtls(&leaf().uri(CART).valid(0, to).issue());
    let now = u64::try_from(NOW.0).unwrap();
    let (short, long) = (seconds(now + 60), seconds(now + 600));
    let streams = [opened(&mut vm, &short, "GET", "/orders/1"), opened(&mut vm, &long, "GET", "/orders/1")];
    assert_eq!(ended(&mut vm, streams), [false, false]);
    // The last second of a certificate is within its validity (RFC 5280 §4.1.2.5).
    vm.set_time(at(60));
    assert_eq!(ended(&mut vm, streams), [false, false]);
    vm.set_time(at(61));
    assert_eq!(ended(&mut vm, streams), [true, false]);
    assert_eq!(vm.counter(ENDED), Some(1));
    assert_eq!(vm.counter("portcullis.ended.certificate_expired"), Some(1));
    // It is no refused request.
    assert_eq!(vm.counter("portcullis.requests.denied"), Some(0));
    let records = records(&mut vm);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record["reason"], "certificate_expired");
    assert_eq!(record["identity"], CART);
    assert_eq!(record["path"], "/orders/1");
    // It is ended once.
    vm.close(streams[0]);
    assert_eq!(ended(&mut vm, [streams[1]]), [false]);
    assert_eq!(vm.counter(ENDED), Some(1));
}

#[test]
fn a_certificate_ends_within_its_last_second_and_a_token_at_its_own() {
    let half = Duration::from_millis(500);
    let now = u64::try_from(NOW.0).unwrap();
    let short = Connection::mtls(&leaf().uri(CART).valid(0, now + 60).issue());
    let mut vm = gate();
    let stream = opened(&mut vm, &short, "GET", "/orders/1");
    vm.set_time(at(59));
    vm.advance(half);
    assert_eq!(ended(&mut vm, [stream]), [false]);
    vm.set_time(at(60));
    vm.advance(half);
    assert_eq!(answer(&get(&mut vm, &short, "/orders/1")), (401, "certificate_expired".to_owned()));
    assert_eq!(ended(&mut vm, [stream]), [true]);

    let (mut vm, open) = with_tokens();
    let stream = open(&mut vm, 60);
    vm.set_time(at(59));
    vm.advance(half);
    assert_eq!(ended(&mut vm, [stream]), [false]);
    vm.set_time(at(60));
    assert_eq!(ended(&mut vm, [stream]), [true]);
}

#[test]
fn a_stream_that_begins_under_a_policy_that_was_just_replaced_is_judged_by_the_new_one() {
    let (mut vm, wide) = two_of_one_name();
    vm.tick();
    // The proxy has not changed over yet, and this worker has looked at all there was.
    let (late, outcome) = vm.open(&peer(CHECKOUT), request("POST", "/orders/1"));
    assert_eq!(outcome.status(), Some(200));
    let mut closed = policy();
    closed["rules"] = json!([{ "id": "nobody", "deny": "any", "paths": ["/**"] }]);
    let _ = vm.add_neighbour_named(NAME, closed.to_string().as_bytes()).unwrap();
    vm.tick();
    assert!(vm.is_reset(late));
    let (later, outcome) = vm.open_of(wide, &peer(CART), request("GET", "/orders/1"));
    assert_eq!(outcome.status(), Some(200));
    assert_eq!(ended(&mut vm, [later]), [true]);
}

#[test]
fn more_than_can_be_watched_is_not_let_in() {
    let mut vm = gate();
    let large = vec![b'a'; 60 << 10];
    let fields: Vec<(&str, &[u8])> = ["x-a", "x-b", "x-c"].iter().map(|name| (*name, large.as_slice())).collect();
    let cart = peer(CART);
    let mut streams = Vec::new();
    let outcome = loop {
        let (stream, outcome) = vm.open(&cart, request_with("GET", "/orders/1", &fields));
        if outcome.status() != Some(200) {
            break outcome;
        }
        streams.push(stream);
        assert!(streams.len() < 10_000, "no end");
    };
    assert_eq!(answer(&outcome), (503, "internal_error".to_owned()));
    vm.close(streams.pop().unwrap());
    assert_eq!(vm.open(&cart, request("GET", "/orders/1")).1.status(), Some(200));
    assert_eq!(vm.failure(), None);
}

#[test]
fn a_new_policy_ends_what_it_refuses_and_nothing_else() {
    let mut vm = gate();
    let streams = [
        opened(&mut vm, &peer(CHECKOUT), "POST", "/orders/1"),
        opened(&mut vm, &peer(CHECKOUT), "GET", "/orders/1"),
        opened(&mut vm, &peer(CART), "GET", "/orders/1"),
        opened(&mut vm, &peer(CART), "GET", "/healthz"),
    ];
    let mut edited = policy();
    edited["roles"]["checkout"] = json!([{ "spiffe": "spiffe://acme.example/ns/pay/sa/other" }]);
    assert!(vm.configure(edited.to_string().as_bytes()));
    assert_eq!(ended(&mut vm, streams), [true, false, false, false]);
    assert_eq!(vm.counter("portcullis.ended.no_rule_matched"), Some(1));
    // One that is refused changes nothing.
    assert!(!vm.configure(b"{"));
    assert_eq!(ended(&mut vm, streams), [true, false, false, false]);
    // The streams that went on are judged by the policy in force, not by the one before.
    edited["rules"][1]["paths"] = json!(["/orders/2"]);
    assert!(vm.configure(edited.to_string().as_bytes()));
    assert_eq!(ended(&mut vm, streams), [true, true, true, false]);
    for stream in streams {
        vm.close(stream);
    }
    assert_eq!(vm.counter(ENDED), Some(3));
    assert_eq!(vm.counter("portcullis.ended.no_rule_matched"), Some(3));
}

#[test]
fn revocation_and_distrust_reach_open_streams() {
    let (certificate, other) = (leaf().uri(CART).issue(), leaf().uri(CART).issue());
    let now = u64::try_from(NOW.0).unwrap();
    let old = leaf().uri(CART).valid(now - 3_600, now + 3_600).issue();
    let mut vm = gate();
    let streams = [certificate.clone(), other, old]
        .map(|certificate| opened(&mut vm, &Connection::mtls(&certificate), "GET", "/orders/1"));
    let mut revoking = policy();
    revoking["revoked"] = json!({ "sha256": [certificate.sha256_hex()] });
    assert!(vm.configure(revoking.to_string().as_bytes()));
    assert_eq!(ended(&mut vm, streams), [true, false, false]);
    let hour = jiff::Timestamp::from_second(NOW.0 - 3_000).unwrap();
    revoking["distrust"] = json!([{ "issued_before": hour.to_string() }]);
    assert!(vm.configure(revoking.to_string().as_bytes()));
    assert_eq!(ended(&mut vm, streams), [true, false, true]);
    assert_eq!(vm.counter("portcullis.ended.certificate_revoked"), Some(1));
    assert_eq!(vm.counter("portcullis.ended.certificate_distrusted"), Some(1));
}

fn policy_of(issuer: &TokenIssuer) -> Value {
    let mut policy = policy();
    policy["tokens"] = json!({ "corp": {
        "issuer": "https://login.acme.example", "audience": ["orders"], "binding": "off", "clock_skew": "0s",
        "jwks": { "keys": [issuer.jwk()] },
    } });
    policy["rules"][1]["scopes"] = json!(["read"]);
    policy
}

/// A gate that asks for a token, and what opens a stream with one that ends after so many seconds.
fn with_tokens() -> (Vm, impl Fn(&mut Vm, i64) -> StreamId) {
    let issuer = TokenIssuer::new("k1", "ES256");
    let vm = gate_with(&policy_of(&issuer));
    let open = move |vm: &mut Vm, seconds: i64| {
        let claims = json!({
            "iss": "https://login.acme.example", "aud": "orders", "exp": NOW.0 + seconds, "scope": "read",
        });
        let value = format!("Bearer {}", issuer.sign(&claims));
        let fields: [(&str, &[u8]); 1] = [("authorization", value.as_bytes())];
        let (stream, outcome) = vm.open(&peer(CART), request_with("GET", "/orders/1", &fields));
        assert_eq!(outcome.status(), Some(200), "{:?}", vm.log());
        stream
    };
    (vm, open)
}

#[test]
fn a_stream_ends_with_its_token() {
    let (mut vm, open) = with_tokens();
    let streams = [open(&mut vm, 60), open(&mut vm, 120)];
    vm.set_time(at(59));
    assert_eq!(ended(&mut vm, streams), [false, false]);
    vm.set_time(at(60));
    assert_eq!(ended(&mut vm, streams), [true, false]);
    assert_eq!(vm.counter("portcullis.ended.token_expired"), Some(1));
    // What signed the other is no longer believed.
    let another = policy_of(&TokenIssuer::new("k1", "ES256"));
    assert!(vm.configure(another.to_string().as_bytes()));
    assert_eq!(ended(&mut vm, streams), [true, true]);
    assert_eq!(vm.counter("portcullis.ended.token_signature_invalid"), Some(1));
}

#[test]
fn a_stream_ends_when_the_hours_of_its_rule_do() {
    let mut policy = policy();
    // `NOW` is ten o'clock.
    policy["rules"][1]["times"] = json!([{ "hours": "09:00-10:01" }]);
    let mut vm = gate_with(&policy);
    let streams = [opened(&mut vm, &peer(CART), "GET", "/orders/1"), opened(&mut vm, &peer(CART), "GET", "/healthz")];
    vm.set_time(at(59));
    assert_eq!(ended(&mut vm, streams), [false, false]);
    vm.set_time(at(60));
    assert_eq!(ended(&mut vm, streams), [true, false]);
}

#[test]
fn a_clock_that_is_set_changes_what_is_open_and_brings_nobody_back() {
    const HOUR: i64 = 3_600;
    let mut policy = policy();
    // `NOW` is ten o'clock.
    policy["rules"][1]["times"] = json!([{ "hours": "09:30-12:00" }]);
    let now = u64::try_from(NOW.0).unwrap();
    let revoked = leaf().uri(CART).valid(0, now + 86_400).issue();
    policy["revoked"] = json!({ "sha256": [revoked.sha256_hex()] });
    let revoked = Connection::mtls(&revoked);
    let mut vm = gate_with(&policy);
    let until = |to: u64| Connection::mtls(&leaf().uri(CART).valid(0, to).issue());
    let (short, long) = (until(now + 600), until(now + 86_400));
    let streams = [
        opened(&mut vm, &short, "GET", "/healthz"),
        opened(&mut vm, &long, "GET", "/healthz"),
        opened(&mut vm, &long, "GET", "/orders/1"),
    ];
    let refused = |vm: &mut Vm| answer(&get(vm, &revoked, "/orders/1"));
    let is_revoked = (401, "certificate_revoked".to_owned());
    assert_eq!(ended(&mut vm, streams), [false, false, false]);
    assert_eq!(refused(&mut vm), is_revoked);
    // An hour back: the hours of a rule have not begun.
    vm.set_time(at(-HOUR));
    assert_eq!(ended(&mut vm, streams), [false, false, true]);
    assert_eq!(answer(&get(&mut vm, &revoked, "/healthz")), is_revoked);
    assert_eq!(vm.take_log().iter().filter(|line| line.text.contains("the clock went back by 3600 s")).count(), 1);
    // An hour ahead: a certificate has ended.
    vm.set_time(at(HOUR));
    assert_eq!(ended(&mut vm, streams), [true, false, true]);
    assert_eq!(answer(&get(&mut vm, &short, "/healthz")), (401, "certificate_expired".to_owned()));
    // As it was: nobody is brought back, and what is open is due at its time.
    vm.set_time(NOW);
    assert_eq!(ended(&mut vm, streams), [true, false, true]);
    assert_eq!(refused(&mut vm), is_revoked);
    assert_eq!(vm.counter(ENDED), Some(2));
    vm.set_time(at(86_401));
    assert_eq!(ended(&mut vm, streams), [true, true, true]);
    assert_eq!(refused(&mut vm), (401, "certificate_expired".to_owned()));
}

#[test]
fn an_earlier_configuration_that_comes_back_is_known_after_a_step_back_too() {
    let (mut vm, wide) = two_of_one_name();
    let (invoices, _) = vm.open_of(wide, &peer(CART), request("GET", "/invoices/1"));
    vm.set_time(at(-60));
    let _ = opened(&mut vm, &peer(CART), "GET", "/orders/1");
    assert_eq!(ended(&mut vm, [invoices]), [true]);
}

#[test]
fn what_the_host_cannot_say_any_more_is_no_reason_to_go_on() {
    const INTERNAL_FAILURE: i32 = 10;
    let mut vm = gate();
    let stream = opened(&mut vm, &peer(CART), "GET", "/orders/1");
    let mut edited = policy();
    edited["trust_domain"] = json!("other.example");
    assert!(vm.configure(edited.to_string().as_bytes()));
    vm.break_call("proxy_get_property", INTERNAL_FAILURE);
    assert_eq!(ended(&mut vm, [stream]), [true]);
    assert_eq!(vm.counter("portcullis.ended.internal_error"), Some(1));
}

#[test]
fn of_ten_thousand_streams_exactly_the_refused_ones_end() {
    const STREAMS: usize = 10_000;
    const REVOKED: usize = 1_000;
    let mut vm = gate();
    // A certificate for each hundred, as pools of connections have.
    let certificates: Vec<_> = (0..STREAMS / 100).map(|_| leaf().uri(CART).issue()).collect();
    let connections: Vec<_> = certificates.iter().map(Connection::mtls).collect();
    let streams: Vec<_> =
        (0..STREAMS).map(|number| opened(&mut vm, &connections[number % 100], "GET", "/orders/1")).collect();
    let mut revoking = policy();
    let revoked = REVOKED / 100;
    let hashes: Vec<_> = certificates.iter().take(revoked).map(|certificate| certificate.sha256_hex()).collect();
    revoking["revoked"] = json!({ "sha256": hashes });
    assert!(vm.configure(revoking.to_string().as_bytes()));
    // One look judges no more than a worker has time for; the next ones judge the rest.
    for _ in 0..2 {
        vm.tick();
    }
    for (number, stream) in streams.iter().enumerate() {
        assert_eq!(vm.is_reset(*stream), number % 100 < revoked, "stream {number}");
    }
    assert_eq!(vm.counter(ENDED), Some(1_000));
    for stream in streams {
        vm.close(stream);
    }
    assert_alive(&mut vm);
}

#[test]
fn what_has_ended_is_forgotten() {
    /// A table may double once more; the heads of so many requests would be tens of megabytes.
    const ROOM: usize = 1 << 20;
    let mut vm = gate();
    let cart = peer(CART);
    let fill = |vm: &mut Vm| {
        let streams: Vec<_> = (0..1_000).map(|_| opened(vm, &cart, "GET", "/orders/1")).collect();
        streams.into_iter().for_each(|stream| vm.close(stream));
    };
    for _ in 0..10 {
        fill(&mut vm);
    }
    let before = vm.memory_size();
    for _ in 0..50 {
        fill(&mut vm);
    }
    assert!(vm.memory_size() <= before + ROOM, "{} after {before}", vm.memory_size());
    // The end of its certificate finds nothing to end.
    vm.set_time(at(7_200));
    vm.tick();
    assert_eq!((vm.counter(ENDED), vm.failure()), (Some(0), None));
}

#[test]
fn an_edit_does_not_reach_the_streams_of_a_filter_of_another_name() {
    let mut vm = gate();
    let neighbour = vm.add_neighbour(policy().to_string().as_bytes()).unwrap();
    let ours = opened(&mut vm, &peer(CART), "GET", "/orders/1");
    let (theirs, _) = vm.open_of(neighbour, &peer(CART), request("GET", "/orders/1"));
    let mut closed = policy();
    closed["rules"] = json!([{ "id": "nobody", "deny": "any", "paths": ["/**"] }]);
    assert!(vm.configure(closed.to_string().as_bytes()));
    assert_eq!(ended(&mut vm, [ours, theirs]), [true, false]);
}

/// Two filters of one name, of which the one or the other is in force: `wide` lets people at `/invoices` too.
fn two_of_one_name() -> (Vm, Neighbour) {
    let mut vm = gate();
    let mut wide = policy();
    wide["rules"][1]["paths"] = json!(["/orders/{id}", "/invoices/{id}"]);
    let neighbour = vm.add_neighbour_named(NAME, wide.to_string().as_bytes()).unwrap();
    (vm, neighbour)
}

#[test]
fn an_earlier_configuration_that_comes_back_reaches_open_streams() {
    let (mut vm, wide) = two_of_one_name();
    let stream = |(stream, _)| stream;
    let invoices = stream(vm.open_of(wide, &peer(CART), request("GET", "/invoices/1")));
    let orders = stream(vm.open_of(wide, &peer(CART), request("GET", "/orders/1")));
    // Some streams begin under the earlier one while the proxy changes over.
    let late = opened(&mut vm, &peer(CART), "GET", "/orders/1");
    assert_eq!(ended(&mut vm, [invoices, orders, late]), [false, false, false]);
    // Envoy takes up the root context of an earlier configuration, without a word, if a stream has kept it alive.
    vm.set_time(at(60));
    let again = opened(&mut vm, &peer(CART), "GET", "/orders/1");
    assert_eq!(ended(&mut vm, [invoices, orders, late, again]), [true, false, false, false]);
}

#[test]
fn two_policies_in_force_under_one_name_are_told_and_each_keeps_its_streams() {
    let (mut vm, wide) = two_of_one_name();
    for seconds in [60, 120] {
        vm.set_time(at(seconds));
        let _ = opened(&mut vm, &peer(CART), "GET", "/orders/1");
        assert_eq!(vm.request_of(wide, &peer(CART), request("GET", "/invoices/1")).status(), Some(200));
    }
    let (theirs, _) = vm.open_of(wide, &peer(CART), request("GET", "/invoices/1"));
    let ours = opened(&mut vm, &peer(CART), "GET", "/orders/1");
    assert_eq!(ended(&mut vm, [theirs, ours]), [false, false]);
    let told = vm.log().iter().filter(|line| line.text.contains("have the name `portcullis`")).count();
    assert_eq!(told, 1);
}
